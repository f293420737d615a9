"""Runs one chunk through its processor, in a worker and in a trial alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from backhaul.model.errors import UnsuitableInput
from backhaul.model.interruption import Interrupted
from backhaul.plugin.context import Context, RecordCursor
from backhaul.plugin.failure import Watched, only_bytes
from backhaul.plugin.journal import Journal
from backhaul.plugin.processor import Processor
from backhaul.reading import Chunk, Record, Window
from backhaul.worker.interrupter import Interrupter


@dataclass(frozen=True)
class ChunkResult:
    """The processor's result for a chunk, or for the rest of one that was open."""

    chunk: Chunk
    body: bytes
    records: int
    tallies: Mapping[str, int]


@dataclass(frozen=True)
class ChunkFault:
    """The reason why a chunk has no result: unsuitable input in it, an exception of the processor, an interruption.

    A value, because `ShardRun` decides what follows. Any other failure is a crash, and raised.
    """

    chunk: Chunk
    error: Exception | SystemExit | Interrupted
    record: int | None = None
    """Byte offset of the record that was being processed."""


class Records(Watched[Record]):
    """The records given to a processor: counted, and with the place of the last one."""

    def __init__(self, items: Iterator[Record], start: int) -> None:
        super().__init__(items)
        self.begun: int | None = None
        """Byte offset at which the last record begins; None before the first."""
        self.position = start
        """Byte offset at which the last record ends."""

    def __next__(self) -> Record:
        record = super().__next__()
        self.begun = record.start
        self.position = record.start + record.size
        return record


class ChunkRun:
    """One try at a chunk, from the byte `start`, up to which an earlier try was committed.

    `pieces` and `cursor.tallies` hold what the processor has made and no commit has yet. At a checkpoint, the journal
    marks a safe point with `mark_safe`; when a commit is due, it removes the results up to there with `take`.
    """

    def __init__(
        self,
        processor: Processor,
        window: Window,
        chunk: Chunk,
        *,
        start: int | None = None,
        journal: Journal | None = None,
        interrupter: Interrupter | None = None,
    ) -> None:
        self.chunk = chunk
        self._processor = processor
        self._interrupter = interrupter or Interrupter()
        begin = chunk.start if start is None else start
        rest = Chunk(chunk.index, begin, chunk.end, quoted=chunk.quoted and begin == chunk.start)
        # A record may cross the chunk's end; records that begin after the end belong to the next chunk.
        items: Iterator[Record] = processor.reads.read(window, rest) if begin < chunk.end else iter(())
        self.records = Records(items, begin)
        self.pieces: list[bytes] = []
        self.cursor = RecordCursor(journal, scope=chunk.start)
        self.safe = Safe(begin)
        self.first: int | None = None
        """Byte offset of the first record that is not done, if several are in work at a time."""

    def run(self) -> ChunkResult | ChunkFault:
        """Return the chunk's result, or its fault.

        Raises exceptions of reading the source, and `MemoryError`: those are crashes, which a retry may mend.
        """
        try:
            try:
                self._interrupter.arm()
                made = self._processor.process_chunk(self.records, Context(self.cursor))
                for piece in only_bytes(made, "process_chunk"):
                    self.pieces.append(piece)  # one by one: a checkpoint takes pieces away in between
            finally:
                self._interrupter.disarm()
            self.records.raise_failure()
            self._interrupter.reraise()  # the processor may have caught the interruption, and lost a record by that
        except MemoryError:
            raise
        except (Exception, SystemExit, Interrupted) as error:  # the processor's own code may raise anything
            self._interrupter.disarm()
            # A failure of reading the input comes first: the processor's own error may only follow from it.
            problem = self.records.failure or error
            if self.records.failure is not None and not isinstance(problem, UnsuitableInput):
                raise problem from error
            return ChunkFault(self.chunk, problem, self.records.begun if self.first is None else self.first)
        self.mark_safe(self.records.position, self.records.count)
        taken = self.take()
        return ChunkResult(self.chunk, taken.body, taken.records, taken.tallies)

    def mark_safe(self, position: int, records: int) -> None:
        """Mark a safe point: the first `records` records, up to the byte `position`, are done with all their results.

        A later failure leaves them done.
        """
        self.safe.position = position
        self.safe.pieces = len(self.pieces)
        self.safe.records = records - self.safe.records_taken
        if self.cursor.tallies:
            self.safe.tallies.update(self.cursor.tallies)
            self.cursor.tallies.clear()

    def take(self) -> Taken:
        """Return the results up to the last safe point that were not taken yet, and remove them here."""
        safe = self.safe
        taken = Taken(safe.position, b"".join(self.pieces[: safe.pieces]), safe.records, dict(safe.tallies))
        del self.pieces[: safe.pieces]
        self.safe = Safe(safe.position, records_taken=safe.records_taken + safe.records)
        return taken


@dataclass
class Safe:
    """A safe point: the byte up to which the chunk is done, and the results up to there that were not taken yet."""

    position: int
    pieces: int = 0
    records: int = 0
    records_taken: int = 0
    """The chunk's records whose results were taken at earlier safe points."""
    tallies: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Taken:
    """The results of a chunk between two safe points; `position` is the byte of the later one."""

    position: int
    body: bytes
    records: int
    tallies: Mapping[str, int]


def run_chunk(
    processor: Processor, window: Window, chunk: Chunk, journal: Journal | None = None
) -> ChunkResult | ChunkFault:
    """Return the result, or the fault, of one whole chunk; `processor` must be made for this chunk alone."""
    return ChunkRun(processor, window, chunk, journal=journal).run()
