"""What happened: every call to a store, every record worked on and every event, in the order of their effects."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Change:
    """One item of a table before and after a write, as plain values; none where there is no item."""

    table: str
    pk: str
    sk: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass
class Call:
    """One attempt of a process to use a store, and what came of it."""

    number: int
    time: float
    actor: str
    """Which invocation of which function: `process#7`."""
    function: str
    operation: str
    """AWS' own name: UpdateItem, PutObject ..."""
    target: str
    """What it is about: job, shard, input, plan, results, output, receipt, run, bus, queue ..."""
    step: str
    """What it is for: `claim`, `commit` ..., or else the operation and target."""
    subject: str
    """The key: `<pk>|<sk>`, or that of the object."""
    request: dict[str, Any]
    job_id: str = ""
    shard: int | None = None
    outcome: str = ""
    """`ok`, an error code, or what was done to it: `killed before`, `killed after`, `lost` ..."""
    applied: bool = False
    """Whether it reached the store and was not refused."""
    changes: tuple[Change, ...] = ()
    answer: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A processor was given a record."""

    time: float
    actor: str
    job_id: str
    record: str


@dataclass(frozen=True)
class Published:
    """An event that the bus took."""

    time: float
    detail_type: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class Note:
    """Something else that happened: a fault, an invocation that began or ended, a message that moved."""

    time: float
    actor: str
    what: str


@dataclass
class History:
    """Everything that was recorded of one simulation."""

    calls: list[Call] = field(default_factory=list)
    work: list[Work] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def digest(self) -> str:
        """Return a hash of all of it: equal for equal histories."""
        text = json.dumps(asdict(self), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def excerpt(self, *, job_id: str = "", last: int = 60) -> list[str]:
        """Return the last lines of it, for people."""
        lines: list[tuple[float, str]] = [
            (call.time, f"{call.actor:<14} {call.step:<22} {_short(call.subject):<36} {call.outcome}")
            for call in self.calls
            if (not job_id or call.job_id in ("", job_id))
            and (call.step, call.outcome) != ("list due", "ok")
            and call.function != "sweep"
        ]
        lines += [(note.time, f"{note.actor:<14} {note.what}") for note in self.notes]
        lines.sort(key=lambda line: line[0])
        return [f"{time:9.3f}  {text}" for time, text in lines[-last:]]


@dataclass(frozen=True)
class Stored:
    """One version of an object."""

    key: str
    version_id: str
    body: bytes


@dataclass(frozen=True)
class Final:
    """What the stores hold in the end."""

    items: dict[tuple[str, str, str], dict[str, Any]]
    """Table, pk and sk, to plain values."""
    objects: dict[tuple[str, str], bytes]
    """Key and version, to the body."""
    uploads: tuple[str, ...] = ()
    """Keys of multipart uploads that were neither completed nor aborted."""
    queues: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Queue, to the bodies of its messages."""
    runs: dict[str, str] = field(default_factory=dict)
    """Execution name, to its status."""


def _short(key: str) -> str:
    return key if len(key) <= 36 else "…" + key[-35:]
