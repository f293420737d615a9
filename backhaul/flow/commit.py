"""Group commit: results of several chunks become one object and one fenced write."""

from __future__ import annotations

from dataclasses import replace

from backhaul import keys
from backhaul.clock import Clock
from backhaul.flow.chunk_run import ChunkResult
from backhaul.job import JobRef
from backhaul.shard import FailedChunk, Part, ShardRecord
from backhaul.store import ObjectStore, ShardStore
from backhaul.tallies import sum_tallies

COMMIT_BYTES = 32 * 1024**2
"""Results gathered before they are committed: what a crash can cost at most, in bytes ..."""
COMMIT_SECONDS = 10.0
"""... and in time."""


class GroupCommit:
    """Gathers results of one attempt at a shard and commits them together."""

    def __init__(
        self, job: JobRef, record: ShardRecord, *, shards: ShardStore, objects: ObjectStore, clock: Clock
    ) -> None:
        self._job = job
        self._record = record
        self._shards = shards
        self._objects = objects
        self._clock = clock
        self._results: list[ChunkResult] = []
        self._failed: list[FailedChunk] = []
        self._since = clock.monotonic()

    def add(self, result: ChunkResult | FailedChunk) -> None:
        """Gather what became of a chunk, and commit if enough has gathered."""
        if isinstance(result, FailedChunk):
            self._failed.append(result)
        else:
            self._results.append(result)
        gathered = sum(len(each.body) for each in self._results)
        if gathered >= COMMIT_BYTES or self._clock.monotonic() - self._since >= COMMIT_SECONDS:
            self.write()

    def write(self, *, finished: bool = False, handed_over: bool = False) -> ShardRecord:
        """Commit what has gathered and return the shard's record; raises `Superseded`.

        `finished` says that no chunk is left, `handed_over` that the attempt ends with some left.

        The object is stored before the record points to it: after a crash between the two it is an
        orphan that nobody reads.
        """
        record = replace(
            self._record,
            finished=finished,
            handed_over=self._record.attempt if handed_over else self._record.handed_over,
            parts=self._record.parts + self._store_part(),
            failed=self._record.failed + tuple(self._failed),
            records=self._record.records + sum(each.records for each in self._results),
            bytes_done=self._record.bytes_done + sum(each.chunk.end - each.chunk.start for each in self._results),
            tallies=sum_tallies([self._record.tallies, *(each.tallies for each in self._results)]),
        )
        self._shards.commit(self._job, record)
        self._record = record
        self._results, self._failed = [], []
        self._since = self._clock.monotonic()
        return record

    def _store_part(self) -> tuple[Part, ...]:
        if not self._results:
            return ()
        lengths = tuple((each.chunk.index, len(each.body)) for each in self._results)
        part = Part(self._record.attempt, len(self._record.parts), lengths)
        body = b"".join(each.body for each in self._results)
        if body:
            self._objects.put(keys.result_key(self._job, self._record.index, part.attempt, part.number), body)
        return (part,)
