"""A job: its states, the moves between them, and the values that describe it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from backhaul.model.cost import Cost
from backhaul.model.policy import DEFAULT, Policy


class JobState(StrEnum):
    """The states of a job; the last six are terminal."""

    AWAITING_UPLOAD = "AWAITING_UPLOAD"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    MERGING = "MERGING"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL = "PARTIAL"
    PAUSED = "PAUSED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"

    @property
    def is_terminal(self) -> bool:
        """Whether the job's run has ended; only a redrive, which is a new run, follows."""
        return self in _TERMINAL

    @property
    def predecessors(self) -> frozenset[JobState]:
        """The states from which a job may move here."""
        return frozenset(state for state, targets in MOVES.items() if self in targets)


_TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.PARTIAL,
        JobState.PAUSED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
    }
)
_ENDED_BADLY = frozenset({JobState.FAILED, JobState.CANCELLED})
_REDRIVEN = frozenset({JobState.QUEUED})

MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.AWAITING_UPLOAD: frozenset({JobState.QUEUED, JobState.EXPIRED}) | _ENDED_BADLY,
    JobState.QUEUED: frozenset({JobState.RUNNING}) | _ENDED_BADLY,
    # A cancelled run ends through its merge, which says which chunks are done and which are missing.
    JobState.RUNNING: frozenset({JobState.MERGING, JobState.FAILED}),
    JobState.MERGING: frozenset({JobState.SUCCEEDED, JobState.PARTIAL, JobState.PAUSED}) | _ENDED_BADLY,
    JobState.SUCCEEDED: frozenset(),
    JobState.PARTIAL: _REDRIVEN,
    # The run ended because the money was spent, with an output of the chunks that were done. A new run does the rest.
    JobState.PAUSED: _REDRIVEN | {JobState.CANCELLED},
    JobState.FAILED: _REDRIVEN,
    JobState.CANCELLED: _REDRIVEN,
    JobState.EXPIRED: frozenset(),
}


@dataclass(frozen=True, order=True)
class JobRef:
    """The name of a job: the tenant that owns it, and its ID."""

    tenant: str
    job_id: str


_MAX_MESSAGE = 1000
_MAX_DETAIL = 500

UPLOAD_GRACE = timedelta(minutes=15)
"""How much longer a job waits than its upload form is valid: S3 checks the form only when an upload begins."""


@dataclass(frozen=True)
class Cause:
    """Why a job, shard or chunk ended as it did: a stable code and a sentence for people.

    A message is cut after 1,000 characters and a detail after 500: a processor may have written them, and
    they must fit into every record and event that holds them.
    """

    code: str
    message: str
    position: int | None = None
    """Byte offset in the input; None if the cause has no place there."""
    detail: str | None = None
    """The text of the processor's exception; it may quote the input, so only the job's owner sees it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", _text(self.message))
        object.__setattr__(self, "detail", self.detail and _text(self.detail))
        if len(self.message) > _MAX_MESSAGE:
            object.__setattr__(self, "message", self.message[: _MAX_MESSAGE - 1] + "…")
        if self.detail is not None and len(self.detail) > _MAX_DETAIL:
            object.__setattr__(self, "detail", self.detail[:_MAX_DETAIL])

    def shortened(self) -> Cause:
        """Return the cause cut to fit into a shard's record, where every chunk may have one."""
        return Cause(self.code, _within(self.message, 600), self.position, self.detail and _within(self.detail, 300))


def _within(text: str, size: int) -> str:
    """Return as much of the text as fits into `size` bytes of UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def _text(text: str) -> str:
    """Return the text with a "?" for each character that UTF-8 cannot encode: JSON allows lone surrogates."""
    return text.encode(errors="replace").decode()


BUDGET_EXHAUSTED = "budget_exhausted"
"""The cause's code if the job has spent its own budget: it goes on when that is raised."""
DAY_BUDGET_EXHAUSTED = "day_budget_exhausted"
"""The cause's code if the job's tenant, or the deployment, has spent its budget of the day."""


class StopKind(StrEnum):
    """Why a run has to stop before its work is done."""

    CANCEL = "cancel"
    FAIL_FAST = "fail_fast"
    DEADLINE = "deadline"
    BUDGET = "budget"
    """A budget is spent: the job's own, or one of the day."""
    LOST = "lost"
    """Step Functions ended the run, and another execution merges what it had committed."""


@dataclass(frozen=True)
class Stop:
    """A request that a run ends early: workers commit and leave, and the merge names the missing chunks."""

    kind: StopKind
    cause: Cause
    at: datetime


@dataclass(frozen=True)
class ObjectRef:
    """One immutable object: its key, its S3 version and its size in bytes."""

    key: str
    version_id: str
    size: int


@dataclass(frozen=True)
class Counts:
    """A job's progress in numbers; `tallies` are the processor's own counts, by name."""

    shards: int = 0
    chunks: int = 0
    chunks_done: int = 0
    chunks_failed: int = 0
    records: int = 0
    bytes_done: int = 0
    attempts: int = 0
    retries: int = 0
    """Attempts that followed a worker that had died, or that a store's outage had broken off."""
    rework: int = 0
    """Chunks that such a worker had begun and not committed, by its last sign of life."""
    tallies: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One submitted input, and the processor for it."""

    ref: JobRef
    state: JobState
    moves: int
    """How often the state has changed; it numbers the job's events."""
    processor: str
    options: Mapping[str, Any]
    file_name: str
    """The caller's name for the file: shown, never part of a key."""
    declared_size: int
    declared_sha256: str | None
    created_at: datetime
    updated_at: datetime
    due_at: datetime | None
    """When the sweep must look at the job; None once it is terminal."""
    expires_at: int | None = None
    """When DynamoDB may delete the job and its shards, in seconds since the Unix epoch."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    policy: Policy = DEFAULT
    input: ObjectRef | None = None
    plan: ObjectRef | None = None
    """All shards of the job, as its first run planned them."""
    output: ObjectRef | None = None
    receipt: ObjectRef | None = None
    run: int = 0
    """Runs ordered so far; a run's name is `<job>-<run>`."""
    only_failed: bool = False
    """Whether the run leaves out chunks that were never tried."""
    order: str | None = None
    """Which of two redrives at the same moment ordered the run."""
    queue: str | None = None
    """Set while the job is queued: this attribute puts it into the index of queued jobs."""
    turn: str | None = None
    """The job's place in the queue: it sorts by priority, then by turn among tenants, then by age."""
    stop: Stop | None = None
    deadline_at: datetime | None = None
    counts: Counts | None = None
    cost: Cost | None = None
    """The cost of the job's calls of providers, as of the end of its last run."""
    cause: Cause | None = None


_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def new_job_id(now: datetime) -> str:
    """Return a new job ID: 26 characters that sort by time (a ULID in lower case)."""
    return job_id_from(int(now.astimezone(UTC).timestamp() * 1000), secrets.randbits(80))


def job_id_from(milliseconds: int, rest: int) -> str:
    """Return the job ID made of a time in milliseconds since the Unix epoch and 80 further bits."""
    number = milliseconds << 80 | rest
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
