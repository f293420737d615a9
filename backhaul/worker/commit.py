"""Group commit: results of several chunks become one object and one fenced write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.dead_letter import dead_letter_of
from backhaul.model.job import Job
from backhaul.model.progress import FailedChunk, OpenChunk, Part, ShardRecord, Suspect, Try, Wait, dropping
from backhaul.model.tallies import sum_tallies
from backhaul.store import DeadLetterQueue, ObjectStore, ShardStore
from backhaul.worker.chunk_run import ChunkResult, Taken
from backhaul.worker.in_work import InWork

COMMIT_BYTES = 32 * 1024**2
"""The most bytes of results that wait for a commit, and so the most that a crash can cost."""
COMMIT_SECONDS = 10.0
"""The longest time that results wait for a commit."""
MAX_TAIL = 1024**2
"""A last part of up to so many bytes is always rewritten with the next results, so that a long shard has few parts."""


@dataclass(frozen=True)
class Tools:
    """The stores to which a commit writes, and the clock that tells when one is due."""

    shards: ShardStore
    objects: ObjectStore
    dead_letters: DeadLetterQueue
    clock: Clock


class GroupCommit:
    """Gathers the results of one attempt at a shard, and commits several together.

    Every write names the chunk in work, so it is a sign of life as well.
    """

    def __init__(self, job: Job, record: ShardRecord, tools: Tools, in_work: InWork) -> None:
        self._job = job
        self._in_work = in_work
        self._tools = tools
        self._tail: bytes | None = None
        self._results: list[tuple[int, bytes]] = []
        # The bytes in `_results`. Kept and not summed each time, because every record asks whether a commit is due.
        self._gathered = 0
        self._unsent: list[tuple[FailedChunk, tuple[Try, ...]]] = []
        self._since = tools.clock.monotonic()
        self.record = record
        """The shard record as the next write will store it, except for the gathered results."""
        self.stored = record
        """The shard record as it was last written."""

    def settled(self) -> frozenset[int]:
        """Return the chunks that need no more work once the gathered results are written."""
        gathered = {index for index, _ in self._results}
        return self.record.settled() | (gathered - ({self.record.open.index} if self.record.open else set()))

    @property
    def is_due(self) -> bool:
        """Whether enough bytes have gathered, or enough time has passed since the last commit."""
        if self._tools.clock.monotonic() - self._since >= COMMIT_SECONDS:
            return True
        return self._gathered >= COMMIT_BYTES

    def add(self, result: ChunkResult) -> None:
        """Gather the result of a chunk, or of the rest of one that was open."""
        chunk, record = result.chunk, self.record
        done = record.open if record.open and record.open.index == chunk.index else OpenChunk(chunk.index, chunk.start)
        self._gather(chunk.index, result.body)
        self.record = replace(
            record,
            records=record.records + done.records + result.records,
            bytes_done=record.bytes_done + chunk.end - chunk.start,
            tallies=sum_tallies([record.tallies, done.tallies, result.tallies]),
            open=None if record.open is done else record.open,
            failed=_failed_without(record.failed, chunk.index),
            suspect=_suspect_without(record.suspect, chunk.index),
        )

    def add_open_chunk(self, chunk: OpenChunk, taken: Taken, state: str | None) -> None:
        """Gather the part of a chunk that is done, up to its last safe point; the chunk stays open.

        `state` is the processor's state there, as JSON.
        """
        other = self.record.open
        if other is not None and other.index != chunk.index:
            # An earlier run left the other chunk open. Only one chunk may be open, so the other one begins anew.
            self.record = replace(self.record, parts=dropping(self.record.parts, other.index))
        self._gather(chunk.index, taken.body)
        self.record = replace(
            self.record,
            open=OpenChunk(
                chunk.index,
                taken.position,
                chunk.records + taken.records,
                sum_tallies([chunk.tallies, taken.tallies]),
                state,
            ),
        )

    def suspect(self, suspect: Suspect) -> None:
        """Record the failed tries of a chunk that will be tried again."""
        self.record = replace(self.record, suspect=suspect)

    def hand_over(self, reservations: Mapping[str, str], refusals: Mapping[str, int], wait: Wait | None) -> None:
        """Record what this attempt hands over to the next: unused reservations, refusals, and what the shard waits for.

        The next `write` stores it.
        """
        self.record = replace(self.record, reservations=reservations, refusals=refusals, wait=wait)

    def fail(self, failed: FailedChunk, tries: tuple[Try, ...]) -> None:
        """Set a chunk aside: nothing of it counts, and its dead letter goes out with the next commit."""
        record = self.record
        is_open = record.open is not None and record.open.index == failed.index
        kept = [(index, body) for index, body in self._results if index != failed.index]
        self._results, self._gathered = kept, sum(len(body) for _, body in kept)
        self._unsent.append((failed, tries))
        self.record = replace(
            record,
            failed=(*_failed_without(record.failed, failed.index), failed),
            parts=dropping(record.parts, failed.index) if is_open else record.parts,
            open=None if is_open else record.open,
            suspect=_suspect_without(record.suspect, failed.index),
        )

    def write(self, *, finished: bool = False, handed_over: bool = False) -> ShardRecord:
        """Commit the gathered results and return the shard record; raises `Superseded`.

        `finished` says that no chunk is left to do. `handed_over` says that the attempt ends by itself with this write,
        so that the next attempt does not take it for dead.

        The object is stored before the record points to it: a crash between the two leaves an orphan that nobody
        reads. A dead letter is sent after the record says that its chunk failed: after a crash between the two the
        merge sends it, because the record holds no message ID for it.
        """
        self.record = replace(
            self.record,
            finished=finished,
            handed_over=self.record.attempt if handed_over else self.record.handed_over,
            parts=self._stored_parts(),
            begun=self._in_work.chunk,
        )
        self._store()
        self._since = self._tools.clock.monotonic()
        if self._unsent:
            self._send()
            self._store()
        return self.record

    def _store(self) -> None:
        self._tools.shards.commit(self._job.ref, self.record)
        self.stored = self.record

    def _gather(self, chunk: int, body: bytes) -> None:
        self._results.append((chunk, body))
        self._gathered += len(body)

    def _send(self) -> None:
        sent = {}
        for failed, tries in self._unsent:
            dead_letter = dead_letter_of(self._job, self.record.index, failed, tries, self._tools.clock.now())
            sent[failed.index] = self._tools.dead_letters.send(dead_letter)
        self._unsent = []
        told = (replace(each, message_id=sent.get(each.index, each.message_id)) for each in self.record.failed)
        self.record = replace(self.record, failed=tuple(told))

    def _stored_parts(self) -> tuple[Part, ...]:
        parts = self.record.parts
        if not self._results:
            return parts
        kept, tail, lengths = parts, b"", []
        if parts and parts[-1].size <= _tail_limit(parts):
            kept, tail, lengths = parts[:-1], self._body_of(parts[-1]), list(parts[-1].lengths)
        for index, body in self._results:
            if lengths and lengths[-1][0] == index:
                lengths[-1] = (index, lengths[-1][1] + len(body))
            else:
                lengths.append((index, len(body)))
        number = parts[-1].number + 1 if parts else 0
        part = Part(self.record.attempt, number, tuple(lengths))
        body = tail + b"".join(body for _, body in self._results)
        if body:
            part = replace(part, etag=self._tools.objects.put_result(self._key(part), body), length=len(body))
        self._tail = body if len(body) <= _tail_limit((*kept, part)) else None
        self._results, self._gathered = [], 0
        return (*kept, part)

    def _body_of(self, part: Part) -> bytes:
        if self._tail is None and part.size:
            self._tail = self._tools.objects.read(self._key(part), 0, part.size, part.etag)
        return self._tail or b""

    def _key(self, part: Part) -> str:
        return keys.result_key(self._job.ref, self.record.index, part.attempt, part.number)


def _failed_without(failed: tuple[FailedChunk, ...], chunk: int) -> tuple[FailedChunk, ...]:
    return tuple(each for each in failed if each.index != chunk)


def _tail_limit(parts: tuple[Part, ...]) -> int:
    """Return up to how many bytes the last part is rewritten; parts grow with the shard, so they stay few."""
    return min(max(MAX_TAIL, sum(part.size for part in parts) // 256), COMMIT_BYTES)


def _suspect_without(suspect: Suspect | None, chunk: int) -> Suspect | None:
    return None if suspect and suspect.chunk == chunk else suspect
