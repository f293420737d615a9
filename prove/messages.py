"""Models of what carries messages: the intake queue, the table's stream, the bus and the timer; all at least once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prove.functions import FunctionFailed
from prove.history import Call, Change, Published
from prove.network import Refused
from prove.orchestrator import Execution
from prove.surroundings import Surroundings

VISIBILITY_SECONDS = 180.0
MAX_RECEIVES = 5
MAX_BATCH = 10
STREAM_ATTEMPTS = 26
SWEEP_SECONDS = 60.0


_TERMINAL = frozenset({"SUCCEEDED", "PARTIAL", "PAUSED", "FAILED", "CANCELLED", "EXPIRED"})


@dataclass
class Message:
    """One message of a queue."""

    id: str
    body: str
    receives: int = 0
    deleted: bool = False


@dataclass
class Intake:
    """The queue of finished uploads: out of order, at least once, with a visibility time-out and dead letters."""

    world: Surroundings
    doubled: float = 0.0
    """Share of the messages that two pollers get at once."""
    slow_seconds: float = 0.0
    """How long a receipt may be under way before its function begins."""
    visibility_seconds: float = VISIBILITY_SECONDS
    sent: list[Message] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)
    _number: int = 0

    def send(self, body: str) -> Message:
        """Put a message into the queue."""
        self._number += 1
        message = Message(f"message-{self._number}", body)
        self.sent.append(message)
        self.redeliver(message)
        return message

    def send_together(self, *bodies: str) -> None:
        """Put messages into the queue that one poller receives at once."""
        batch = [Message(f"message-{self._number + number}", body) for number, body in enumerate(bodies, start=1)]
        self._number += len(batch)
        self.sent += batch
        self.world.simulation.spawn("intake", lambda: self._deliver(batch))

    def redeliver(self, message: Message) -> None:
        """Make a message visible, as if new."""
        message.receives, message.deleted = 0, False
        random = self.world.simulation.random
        copies = 2 if random.random() < self.doubled else 1
        for _ in range(copies):
            delay = random.uniform(0.0, 2.0) + self.slow_seconds
            self.world.simulation.spawn("intake", lambda: self._deliver([message]), delay=delay)

    def _deliver(self, batch: list[Message]) -> None:
        while batch := [each for each in batch if not each.deleted]:
            self.dead += [each for each in batch if each.receives >= MAX_RECEIVES and each not in self.dead]
            batch = [each for each in batch if each.receives < MAX_RECEIVES]
            if not batch:
                return
            for each in batch:
                each.receives += 1
            event = {"messages": [{"id": each.id, "body": each.body} for each in batch]}
            every = {each.id for each in batch}
            try:
                failed = failures_in(self.world.functions.call("dispatch", event), every)
            except FunctionFailed:
                failed = every
            for each in batch:
                each.deleted = each.deleted or each.id not in failed
            if not all(each.deleted for each in batch):
                self.world.simulation.sleep(self.visibility_seconds)


def failures_in(answer: Any, every: set[str]) -> set[str]:
    """Return which messages of a batch Lambda takes for failed: all of them if it cannot understand the answer."""
    match answer:
        case None | {"batchItemFailures": None}:
            return set()
        case {"batchItemFailures": [*listed]}:
            found = {each.get("itemIdentifier", "") if isinstance(each, dict) else "" for each in listed}
            return found & every if found <= every else every
        case dict() if "batchItemFailures" not in answer:
            return set()
    return every


@dataclass
class Stream:
    """What a function reads of the tables' streams: in the order of the writes, again until the function takes them."""

    world: Surroundings
    function: str = "announce"
    passes: Callable[[Change, str], bool] = lambda change, jobs: change.sk == "JOB" and change.table == jobs
    """The filter, which is told the name of the jobs table."""
    doubled: float = 0.0
    """Share of the batches that are delivered twice."""
    records: list[tuple[str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    _read: int = 0
    _reading: bool = False

    def note(self, change: Change) -> None:
        """Take in a change of an item, if it passes the filter."""
        if change.after is None or not self.passes(change, self.world.settings.jobs_table):
            return
        images = self.world.tables.images(change)
        self.records.append((f"{len(self.records) + 1:021d}", *images))
        if not self._reading:
            self._reading = True
            delay = self.world.simulation.random.uniform(0.1, 1.0)
            self.world.simulation.spawn("stream", self._deliver, delay=delay)

    @property
    def is_read(self) -> bool:
        """Whether every record went out."""
        return self._read == len(self.records)

    def _deliver(self) -> None:
        tries = 0
        while self._read < len(self.records):
            batch = self.records[self._read : self._read + MAX_BATCH]
            failed = self._call(batch)
            if failed is None:
                if self.world.simulation.random.random() < self.doubled:
                    self._call(batch)
                self._read, tries = self._read + len(batch), 0
                continue
            passed = [number for number, *_ in batch].index(failed)
            self._read, tries = self._read + passed, 0 if passed else tries + 1
            if tries >= STREAM_ATTEMPTS:
                self.dead.append(failed)
                self._read, tries = self._read + 1, 0
            self.world.simulation.sleep(min(2.0**tries, 60.0))
        self._reading = False

    def _call(self, batch: list[tuple[str, dict[str, Any], dict[str, Any]]]) -> str | None:
        try:
            failed: str | None = self.world.functions.call(self.function, {"changes": batch})["failed"]
        except FunctionFailed:
            return batch[0][0]
        return failed


def is_for_sleepers(change: Change, jobs: str) -> bool:
    """Return whether a change passes the filters of `stacks/waking.py`."""
    after = change.after or {}
    if change.sk == "JOB" and change.table == jobs:
        return after.get("state") == "RUNNING" and "stop" in after
    return change.sk == "PROVIDER" or (change.sk == "BREAKER" and after.get("state") == "closed")


@dataclass
class Bus:
    """EventBridge: the event bus, and the rules on what Step Functions says of runs."""

    world: Surroundings
    refuses: float = 0.0
    """Share of the entries that it refuses."""
    loses_run_ends: bool = False
    doubles_run_ends: float = 0.0
    job_ended: Callable[[dict[str, Any]], None] = lambda _: None
    """The rule on jobs that end: others wait for their slots."""
    loses_job_ends: bool = False

    def answer(self, call: Call) -> dict[str, Any]:
        """Answer a request to the API."""
        if call.operation != "PutEvents":
            raise Refused("UnsupportedOperation")
        entries = []
        for entry in call.request["Entries"]:
            if self.world.simulation.random.random() < self.refuses:
                entries.append({"ErrorCode": "ThrottlingException", "ErrorMessage": "slow down"})
                continue
            detail = json.loads(entry["Detail"])
            self.world.history.published.append(Published(self.world.simulation.time, entry["DetailType"], detail))
            if detail["state"] in _TERMINAL and not self.loses_job_ends:
                self.job_ended(detail)
            entries.append({"EventId": str(len(self.world.history.published))})
        return {"FailedEntryCount": sum("ErrorCode" in each for each in entries), "Entries": entries}

    def run_ended_badly(self, execution: Execution) -> None:
        """Wake the sweep, as the rule in `stacks/recovery.py` does."""
        if self.loses_run_ends:
            return
        detail = {
            "status": execution.status,
            "input": execution.input,
            "error": execution.error,
            "cause": execution.cause,
        }
        random = self.world.simulation.random
        event = {"source": "aws.states", "detail": detail}
        for _ in range(2 if random.random() < self.doubles_run_ends else 1):
            self.world.simulation.spawn("rule", lambda: self._mend(event), delay=random.uniform(0.2, 5.0))

    def _mend(self, event: dict[str, Any]) -> None:
        for pause in (0.0, 60.0, 120.0):
            self.world.simulation.sleep(pause)
            try:
                self.world.functions.call("sweep", event)
            except FunctionFailed:
                continue
            return


def sweep_every_minute(world: Surroundings) -> None:
    """The timer: it invokes the sweep without waiting for it."""
    while True:
        world.simulation.sleep(SWEEP_SECONDS)
        world.functions.begin("sweep", {})
