"""The one real deployment of the process layer: started for the first case, gone when Python ends."""

from __future__ import annotations

import atexit
import functools
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from backhaul.client.discovery import client_of
from backhaul.local import LocalCloud
from prove.checker import RULES
from prove.checker.evidence import TERMINAL, Evidence, Expected
from prove.deployed import PROCESSORS, Deployed, Unanswered, eventually
from prove.history import History
from prove.provider import Asked, Provider, provider
from prove.registry import Trial, case
from prove.work import RECORD_BYTES, marked
from scripts.subscriber import subscription

Body = TypeVar("Body", bound=Callable[..., None])

SETTLED_SECONDS = 20.0
"""How long after a job's end its run may still be closing, its slot be held, and its last event be on its way."""
_HISTORY_NEEDED = frozenset(
    {
        "moves are legal",
        "an ended run never changes",
        "the input is pinned",
        "one event ID for each change",
        "a superseded worker writes nothing",
        "checkpoints only grow",
        "merge reads what records point to",
        "rework is bounded",
    }
)
"""Rules on a history: of real processes there is none, only what the stores hold in the end."""


class Found(Evidence):
    """What the stores of a real deployment hold of a job."""

    merged = property(lambda self: self.shards)  # nobody writes after the merge


@dataclass
class Site:
    """The deployment, the provider that its processors ask, and every event it has published."""

    deployed: Deployed
    provider: Provider
    events: list[dict[str, Any]] = field(default_factory=list)
    _numbers: int = 0

    def job(
        self,
        data: bytes,
        processor: str,
        options: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
    ) -> Job:
        """Submit a job whose processor has a name of its own with the provider."""
        self._numbers += 1
        name = f"{processor}-{self._numbers}"
        asks = {"provider": self.provider.of(name)} if processor in ("slow", "paid") else {}
        job_id = self.deployed.submit(data, processor, {**asks, **(options or {})}, policy)
        return Job(self, job_id, name, data)


@dataclass
class Job:
    """One job of a case."""

    site: Site
    id: str
    name: str
    """What the provider knows it by."""
    data: bytes

    def begun(self, least: int = 1, what: str | None = None, seconds: float = 60) -> list[Asked]:
        """Wait until so many records (or stages of this name) were begun, and return all that were."""

        def found() -> list[Asked]:
            each = self.site.provider.begun(self.name)
            return [one for one in each if (one.what[1].isdigit() if what is None else one.what[1] == what)]

        return eventually(found, lambda begun: len(begun) >= least, seconds)

    def receipt(self) -> dict[str, Any]:
        """Return the receipt that the job now points to."""
        found = Found(History(), self.site.deployed.final(self.id), self.expected("")).receipt
        if found is None:
            raise Unanswered(f"job {self.id} has no receipt")
        return found

    def expected(self, ends: str, **changes: Any) -> Expected:
        """Return what the job must come to."""
        usual: dict[str, Any] = {"data": self.data, "output": marked, "record_bytes": RECORD_BYTES}
        return Expected(self.id, self.site.deployed.tenant, frozenset(ends.split()), **(usual | changes))

    def violations(self, expected: Expected, but: Collection[str] = ()) -> list[str]:
        """Return which rules the job breaks as it now stands, but for those named."""
        evidence = Found(History(), self.site.deployed.final(self.id), expected)
        found = [
            f"{name}: {what}"
            for name, rule in RULES.items()
            if name not in _HISTORY_NEEDED and name not in but
            for what in rule(evidence)
        ]
        mine = [each for each in self.site.events if each.get("job_id") == self.id and each["state"] in TERMINAL]
        told = {each["event_id"] for each in mine}
        if len(told) != evidence.job.get("run"):
            found.append(f"{len(told)} terminal event IDs for {evidence.job.get('run')} runs that ended")
        return found


def settle(
    trial: Trial,
    job: Job,
    *,
    ends: str = "SUCCEEDED",
    run: int = 1,
    seconds: float = 150,
    but: Collection[str] = (),
    **changes: Any,
) -> None:
    """Wait for the end of the job's run, and let the checker judge it by all rules but those named."""
    job.site.deployed.ended(job.id, run=run, seconds=seconds)
    expected = job.expected(ends, **changes)
    with suppress(Unanswered):
        eventually(lambda: job.violations(expected, but), lambda found: not found, SETTLED_SECONDS)
    trial.violations += job.violations(expected, but)


def real(identifier: str, sentence: str) -> Callable[[Body], Body]:
    """Declare the decorated function as a case of the process layer; what else it takes must have defaults."""

    def declare(body: Body) -> Body:
        @functools.wraps(body)
        def with_site(trial: Trial) -> None:
            there = site()
            began = time.time()
            try:
                body(trial, there)
            except Exception as error:  # with the log, which run_once does not know
                trial.violations.append(f"the case broke off: {type(error).__name__}: {error}")
                trial.excerpt = traceback.format_exception(error)[-2:]
            if trial.violations:
                trial.excerpt += there.deployed.logged_errors(since=began)

        case(identifier, sentence, layer="process")(with_site)
        return body

    return declare


@functools.cache
def site() -> Site:
    """Return the deployment; the first call starts it."""
    stack = ExitStack()
    atexit.register(stack.close)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else what it started would stay
    return stack.enter_context(running())


@contextmanager
def running() -> Iterator[Site]:
    """Run a deployment of its own as long as this lasts."""
    home = Path(tempfile.mkdtemp(prefix="backhaul-prove-"))
    cloud = LocalCloud(home, PROCESSORS)
    try:
        connection = cloud.up()
        with client_of(connection) as client, watched(Deployed(connection, client, home)) as there:
            yield there
    finally:
        cloud.down()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def watched(deployed: Deployed) -> Iterator[Site]:
    """Run a provider, and listen to every event of the deployment, as long as this lasts."""
    with provider() as asked, subscription(deployed.connection, seconds=86_400) as events:
        there = Site(deployed, asked)
        threading.Thread(target=_listen, args=(events, there.events), daemon=True).start()
        yield there


def _listen(events: Iterable[dict[str, Any]], heard: list[dict[str, Any]]) -> None:
    with suppress(Exception):  # the cloud's end ends it
        for event in events:
            heard.append(event["detail"])


def pause(trial: Trial, least: float, most: float) -> None:
    """Wait for a random moment."""
    time.sleep(trial.random.uniform(least, most))
