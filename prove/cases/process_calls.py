"""Real workers and a strict provider: pace, outages, budgets, and what is paid when workers die."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from prove.checker.rework import Rework
from prove.deployed import Deployed, eventually
from prove.registry import Trial
from prove.site import Site, real
from prove.strict import Strict, strict

WIDTH = 24
"""Bytes of a record, its line break included."""
CONCURRENCY = 8
MAX_TOKENS = 20
"""What an answer may have; the provider's have a quarter of it."""
DOLLARS_PER_TOKEN = 1e-6


@dataclass
class Asking:
    """A provider of the deployment that is strict, and the jobs that ask it."""

    site: Site
    fake: Strict
    name: str
    seen: list[tuple[float, int]] = field(default_factory=list)
    """When how many calls had come, as far as somebody looked."""

    @property
    def deployed(self) -> Deployed:
        """The deployment."""
        return self.site.deployed

    def submit(self, records: int, shards: int = 4, **policy: Any) -> Paying:
        """Submit a file of so many records, one call each."""
        lines = [
            f"record {number:06d} of {self.name[7:15]}"[: WIDTH - 1].ljust(WIDTH - 1, ".") for number in range(records)
        ]
        data = "".join(f"{line}\n" for line in lines).encode()
        options = {
            "provider": self.name,
            "prompt": "{{record}}",
            "format": "lines",
            "max_tokens": MAX_TOKENS,
            "concurrency": CONCURRENCY,
            "chunk_bytes": math.ceil(records / shards) * WIDTH,
        }
        return Paying(self, self.deployed.submit(data, "prompt", options, policy), lines)

    def costs(self, price: float) -> float:
        """Return what the provider has charged in dollars, by its own count, at a price for a million tokens."""
        tokens = self.fake.counts()["tokens"]
        return float(tokens["input"] + tokens["output"]) * price * DOLLARS_PER_TOKEN

    def set(self, **fields: Any) -> None:
        """Change the provider's settings, as an operator does."""
        given = [f"{name.replace('__', '.')}={value}" for name, value in fields.items()]
        code, said = self.deployed.command("providers", "set", self.name, *given)
        if code:
            raise RuntimeError(said)

    def breaker(self) -> str:
        """Return the state of the provider's breaker."""
        code, said = self.deployed.command("breakers", "list", "--json")
        if code:
            raise RuntimeError(said)
        return str(next(each["state"] for each in json.loads(said)["breakers"] if each["provider"] == self.name))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at how many calls come as long as this lasts."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.1):
                with suppress(OSError):  # in an outage it may not even say this
                    self.seen.append((time.monotonic(), self.fake.counts()["calls"]))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def per_second(self) -> float:
        """Return the pace from the first call to the last."""
        calls = [each for each in self.seen if each[1]]
        (began, first), last = calls[0], calls[-1][1]
        ended = next(at for at, count in calls if count == last)
        return (last - first) / max(ended - began, 1e-9)


@dataclass
class Paying:
    """A job that pays for every record."""

    asking: Asking
    id: str
    lines: list[str]

    def settled(self, trial: Trial, *, run: int = 1, ends: str = "SUCCEEDED", seconds: float = 300) -> Any:
        """Wait for the end of a run, and look at how it ended; a job that succeeded must be complete and in order."""
        job = self.asking.deployed.ended(self.id, run=run, seconds=seconds)
        trial.expect(job.state == ends, f"the job is {job.state}: {job.cause}")
        if ends == "SUCCEEDED":
            output = _output(self.asking.deployed, self.id)
            trial.expect([each["input"] for each in output] == self.lines, "the output is not complete and in order")
            wrong = [each for each in output if each.get("error") or not each["output"]]
            trial.expect(not wrong, f"{len(wrong)} records have no answer, such as {wrong[:1]}")
        return job

    def left(self) -> list[dict[str, Any]]:
        """Return what the workers' logs say of every attempt at a shard."""
        logs, deployed = self.asking.deployed.admin("logs"), self.asking.deployed
        group = f"/aws/lambda/{deployed.function('workersprocess')}"
        groups = logs.describe_log_groups()["logGroups"]
        names = [each["logGroupName"] for each in groups if "processlogs" in each["logGroupName"].lower()] or [group]
        found = []
        for name in names:
            for page in logs.get_paginator("filter_log_events").paginate(logGroupName=name):
                for event in page["events"]:
                    with suppress(ValueError):
                        said = json.loads(event["message"])
                        if said.get("message") == "shard left" and said.get("job_id") == self.id:
                            found.append(said)
        return found


@contextmanager
def asking(site: Site, *, limit: int | None = None, price: float = 0, **settings: Any) -> Iterator[Asking]:
    """Run a strict provider, and set the deployment up to ask it, as long as this lasts."""
    with strict(**settings) as fake:
        yield known_as(Asking(site, fake, f"strict-{time.time_ns() % 10**12:012d}"), limit, price)


def known_as(it: Asking, limit: int | None, price: float) -> Asking:
    """Set a provider up under its name, and return it."""
    it.set(
        kind="openai",
        base_url=it.fake.url,
        model="fake",
        idempotency_header="Idempotency-Key",
        timeout_seconds=10,
        price_input=f"{price:.6f}",
        price_output=f"{price:.6f}",
        **({"requests_per_minute": limit} if limit else {}),
    )
    return it


@real(
    "F35.pace", "Many paid calls at a strict provider's limit: none is refused, and none waits in a function for long."
)
def pace(
    trial: Trial, site: Site, records: int = 240, per_minute: int = 600, share: float = 0.9, lateness: float = 1.0
) -> None:
    """`share`: how much of the rate is used at least; a busy machine costs some, so a benchmark asks for more.

    `lateness`: for how many seconds of its rate the provider lets calls catch up, which a slow machine needs.
    """
    strictness = {"requests_per_minute": per_minute, "burst": round(per_minute / 60 * lateness)}
    with asking(site, limit=round(per_minute * 0.99), latency_ms=150, **strictness) as it:
        job = it.submit(records)
        with it.watched():
            job.settled(trial, seconds=120 + 120 * records / per_minute)
        counts, used = it.fake.counts(), it.per_second() * 60 / per_minute
        trial.expect(counts["refused"] == 0, f"{counts['refused']} calls were refused")
        trial.expect(counts["paid"] == records, f"{counts['paid']} calls were paid for {records} records")
        trial.expect(used >= share, f"{used:.3f} of the allowed rate was used")
        left = job.left()
        longest = max((each["longest_sleep"] for each in left), default=None)
        trial.expect(longest is not None and longest <= 2, f"a call waited {longest} s in a function")
        trial.figures |= {"share of the rate": used, "attempts": len(left), "longest sleep": longest or 0.0}


@real(
    "F36.outage", "A provider dies in the middle of a job: one probe for each cooldown, and no record loses an attempt."
)
def outage(trial: Trial, site: Site, records: int = 160, dead: float = 25.0, cooldown: float = 5.0) -> None:
    with asking(site, limit=600, latency_ms=100) as it:
        it.set(breaker__cooldown_seconds=cooldown, breaker__calls=5)
        job = it.submit(records, max_tries=1)
        eventually(lambda: it.fake.counts()["answered"] >= records // 4)
        began = time.monotonic()
        it.fake.control(outage="unavailable", seconds=dead)
        eventually(lambda: it.breaker() == "open")
        opened = time.monotonic() - began
        time.sleep(2)  # all workers know of it
        before = it.fake.counts()["failed"]
        time.sleep(max(dead - (time.monotonic() - began) - 0.5, 0))
        probes = it.fake.counts()["failed"] - before
        job.settled(trial, seconds=180 + dead)
        allowed = math.ceil(dead / cooldown)
        trial.expect(probes <= allowed, f"{probes} calls reached the dead provider once the breaker was open")
        trial.expect(it.fake.counts()["paid"] == records, f"{it.fake.counts()['paid']} calls were paid")
        trial.figures |= {"opened after s": opened, "calls before": before, "probes": probes}


@real("F44.budget", "A job costs five times what it may: it is paused in time, and goes on once it may cost more.")
def budget(trial: Trial, site: Site, records: int = 200, cap: float = 1.0) -> None:
    with asking(site, price=1.0, latency_ms=50) as one:
        one.submit(8).settled(trial)
        price = 5 * cap / (one.costs(1.0) / 8 * records)
        one.fake.reset(latency_ms=50)
        it = known_as(replace(one, name=f"{one.name}-dear"), None, price)
        job = it.submit(records, max_cost=cap)
        job.settled(trial, ends="PAUSED")
        spent, largest = it.costs(price), (MAX_TOKENS + 40) * price * DOLLARS_PER_TOKEN
        allowed = cap + 4 * CONCURRENCY * largest
        trial.expect(
            spent <= allowed, f"${spent:.3f} were spent of ${cap:.2f}; ${allowed:.3f} may be with what is in flight"
        )
        trial.expect(spent >= min(0.8 * cap, cap - largest), f"it was paused at ${spent:.3f} of ${cap:.2f}")
        code, said = it.deployed.command("budget", "raise", job.id, "10")
        trial.expect(code == 0, f"the budget is not raised: {said}")
        job.settled(trial, run=2)
        most = max(each["paid"] for each in it.fake.counts()["by_content"].values())
        trial.expect(most == 1, f"a record was paid for {most} times")
        trial.figures |= {"paused at": spent, "in all": it.costs(price)}


@real(
    "F1.paid-calls",
    "Workers that wait for paid calls are killed again and again: only what is in flight is asked again.",
)
def killed(trial: Trial, site: Site, records: int = 200, every: float = 3.0, kills: int = 4) -> None:
    with asking(site, limit=900, latency_ms=300) as it:
        job, done = it.submit(records), 0
        while done < kills and it.fake.counts()["answered"] < records * 0.9:
            time.sleep(trial.random.uniform(0.5, 1.5) * every)
            if workers := it.deployed.workers():
                done += it.deployed.kill(trial.random.choice(workers).pid)
        job.settled(trial)
        counts = it.fake.counts()
        again, allowed = counts["calls"] - records, done * CONCURRENCY
        trial.expect(again <= allowed, f"{again} calls were made again; {done} workers died, and {allowed} may be")
        trial.expect(counts["paid"] == records, f"{counts['paid']} calls were paid for {records} records")
        trial.rework = Rework(again / max(done, 1), 0)
        trial.figures |= {"kills": done, "calls again": again, "paid twice": counts["paid"] - records}


def _output(deployed: Deployed, job_id: str) -> list[dict[str, Any]]:
    final = deployed.final(job_id)
    (item,) = (each for (_, _, sk), each in final.items.items() if sk == "JOB")
    body = final.objects[item["output"]["key"], item["output"]["version_id"]]
    return [json.loads(line) for line in body.splitlines()]
