"""The shard record, which says what is committed: every attempt at a shard reads it first and writes it last."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from backhaul.model.job import Cause, Counts
from backhaul.model.tallies import sum_tallies

STALLED_AFTER = timedelta(seconds=30)
"""A worker gives a sign of life every ten seconds; one that has given none for this long may be dead."""

DROPPED = -1
"""The chunk number of bytes that no longer count, because their chunk failed after a part of it was committed."""


@dataclass(frozen=True)
class Part:
    """One commit: an object that holds the results of some chunks, end to end."""

    attempt: int
    number: int
    lengths: tuple[tuple[int, int], ...]
    """(chunk, bytes of its result), in the order in which they lie in the object."""
    etag: str = ""
    """The object's entity tag, as S3 gave it when the object was stored; empty if an older version stored it."""
    length: int = 0
    """How many bytes were stored; 0 if an older version stored the object."""

    @property
    def size(self) -> int:
        """Length of the object in bytes."""
        return sum(length for _, length in self.lengths)


@dataclass(frozen=True)
class Try:
    """One failed try of a chunk: during which attempt at its shard, when, and with which cause."""

    attempt: int
    at: datetime
    code: str
    message: str


@dataclass(frozen=True)
class Suspect:
    """A chunk that failed and is tried again; `record` is the byte offset of the record at which it last failed."""

    chunk: int
    record: int | None
    tries: tuple[Try, ...]
    position: int = 0
    """The byte up to which the chunk was committed when it failed.

    Once more of the chunk is committed, these tries count no longer: they say nothing of the records after it.
    """


@dataclass(frozen=True)
class OpenChunk:
    """A chunk that is done in part: its bytes before `position` are committed, and none after."""

    index: int
    position: int
    records: int = 0
    tallies: Mapping[str, int] = field(default_factory=dict)
    state: str | None = None
    """The processor's state at its last checkpoint, as JSON."""


@dataclass(frozen=True)
class FailedChunk:
    """A chunk that could not be processed, and why."""

    index: int
    start: int
    end: int
    cause: Cause
    record: int | None = None
    """Byte offset of the first record that could not be processed; None if that is not known."""
    tries: int = 1
    message_id: str | None = None
    """The ID of the chunk's message in the queue of failed chunks."""
    run: int = 0
    """The run in which it failed."""


@dataclass(frozen=True)
class Wait:
    """What a shard waits for while no worker holds it, in words, and the earliest end of the wait."""

    what: str
    until: datetime


@dataclass(frozen=True)
class ShardRecord:
    """What is committed of a shard; the attempt is the fencing token of every write.

    Attempt 3 of run 2 has claimed the shard (`attempt` 3). From the record it tells how attempt 2 ended:

        attempt 2 ended by itself                   handed_over 2, previous_run 2
        attempt 2 died, having committed or not     handed_over below 2, previous_run 2: `died`
        attempts 1 and 2 died before they wrote     the same, and `counted` 0: two retries to count
        attempt 2 left because a store failed       the same, but it told Step Functions: `ShardTask.left` is 2
        attempt 2 belonged to run 1                 previous_run 1: `reopened` takes it as handed over

    At most one chunk is open, and it is the first of the chunks that are still to be done.
    """

    index: int
    attempt: int = 0
    run: int = 0
    """The run that committed last."""
    first_attempt: int = 0
    """The first attempt of this run."""
    previous_run: int = 0
    """The run of the claim before the present one."""
    handed_over: int = 0
    """The last attempt that ended by itself, with work left or not; 0 if none has."""
    finished: bool = False
    """Whether the run has nothing left to do in this shard: every chunk is committed, failed or left out."""
    chunks: int = 0
    parts: tuple[Part, ...] = ()
    failed: tuple[FailedChunk, ...] = ()
    open: OpenChunk | None = None
    suspect: Suspect | None = None
    wait: Wait | None = None
    """Set by an attempt that leaves to wait; `waits_for` says whether it still holds."""
    reservations: Mapping[str, str] = field(default_factory=dict)
    """Calls of providers for which a turn is reserved under the limit, by provider and as JSON."""
    refusals: Mapping[str, int] = field(default_factory=dict)
    """By provider, how often in a row it refused the shard's calls and answered none."""
    records: int = 0
    bytes_done: int = 0
    tallies: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    rework: int = 0
    counted: int = 0
    """The last attempt whose death `retries` already counts, if it died."""
    crash: Cause | None = None
    """The cause that Step Functions reported for the last worker that died."""
    crash_run: int = 0
    """The run of the worker that `crash` is about."""
    beat_at: datetime | None = None
    """The worker's last sign of life."""
    begun: int | None = None
    """The chunk that the worker was at when it gave that sign of life."""
    underway: int = 0
    """How many chunks the worker had then begun since its last commit."""

    @property
    def chunks_done(self) -> int:
        """How many chunks are committed."""
        return len(self.done())

    def done(self) -> frozenset[int]:
        """Return the chunks that are committed as a whole."""
        committed = {index for part in self.parts for index, _ in part.lengths}
        return frozenset(committed - {DROPPED, self.open.index if self.open else DROPPED})

    def settled(self) -> frozenset[int]:
        """Return the chunks that need no more work in this run: committed or failed."""
        return self.done() | {chunk.index for chunk in self.failed if chunk.run == self.run}

    def reopened(self, run: int) -> ShardRecord:
        """Return the record, just claimed, as `run` begins with it; unchanged if that run has committed to it before.

        A new run tries failed chunks again, so it starts without suspect and crash. It keeps everything committed.
        """
        if self.run == run:
            return self
        fresh = replace(self, run=run, first_attempt=self.attempt, finished=False)
        # A death in an earlier run must not count against a chunk of this run. A death in this run must count, even if
        # that attempt died before it wrote anything: then `previous_run` is this run, and only `run` is old.
        if self.previous_run != run:
            fresh = replace(fresh, handed_over=self.attempt - 1)
        return replace(fresh, suspect=None, crash=None)

    def died(self) -> bool:
        """Return whether the attempt before the present one died instead of handing the shard over."""
        return self.attempt > 1 and self.handed_over != self.attempt - 1

    def is_alive(self, now: datetime) -> bool:
        """Return whether a worker holds the shard and has given a sign of life within 30 seconds."""
        return self._is_held and self.beat_at is not None and now - self.beat_at <= STALLED_AFTER

    def is_stalled(self, now: datetime) -> bool:
        """Return whether a worker holds the shard but has given no sign of life for 30 seconds."""
        return self._is_held and self.beat_at is not None and now - self.beat_at > STALLED_AFTER

    def waits_for(self) -> Wait | None:
        """Return what the shard waits for, or None while a worker holds it: claiming a shard does not erase `wait`."""
        return self.wait if self.handed_over == self.attempt and not self.finished else None

    @property
    def _is_held(self) -> bool:
        return self.attempt > 0 and not self.finished and self.handed_over != self.attempt and self.crash is None


def dropping(parts: tuple[Part, ...], chunk: int) -> tuple[Part, ...]:
    """Return the parts with the chunk's bytes marked as `DROPPED`; the offsets of other chunks do not change."""
    return tuple(
        replace(part, lengths=tuple((DROPPED if index == chunk else index, size) for index, size in part.lengths))
        for part in parts
    )


def pieces_of(record: ShardRecord) -> Iterator[tuple[int, Part, int, int]]:
    """Yield (chunk, part, first byte in its object, length) of each piece that counts, in the order of commits."""
    done = record.done()
    for part in record.parts:
        start = 0
        for index, length in part.lengths:
            if index in done:
                yield index, part, start, length
            start += length


def count(records: Collection[ShardRecord], *, shards: int, chunks: int, chunks_failed: int) -> Counts:
    """Return a job's counts: those of its plan and of its failures as given, the others summed over its shards."""
    sums: dict[str, Any] = {
        name: sum(getattr(record, name) for record in records)
        for name in ("chunks_done", "records", "bytes_done", "retries", "rework")
    }
    return Counts(
        shards=shards,
        chunks=chunks,
        chunks_failed=chunks_failed,
        attempts=sum(record.attempt for record in records),
        tallies=sum_tallies(record.tallies for record in records),
        **sums,
    )
