"""One chunk through its processor: the same in a worker and in a trial."""

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
    """What the processor made of a chunk, or of what was left of it."""

    chunk: Chunk
    body: bytes
    records: int
    tallies: Mapping[str, int]


@dataclass(frozen=True)
class ChunkFault:
    """What kept a chunk from having a result: the `UnsuitableInput` in it, or what the processor raised.

    A value, because `ShardRun` decides what follows. What is no fault of the chunk's is raised, as a crash.
    """

    chunk: Chunk
    error: Exception | SystemExit | Interrupted
    record: int | None = None
    """Byte offset of the record that was being processed."""


class Records(Watched[Record]):
    """The records handed to a processor: counted, watched, and known by where the last one begins and ends."""

    def __init__(self, items: Iterator[Record], start: int) -> None:
        super().__init__(items)
        self.begun: int | None = None
        """Where the record begins that was given last."""
        self.position = start
        """Where it ends."""

    def __next__(self) -> Record:
        record = super().__next__()
        self.begun = record.start
        self.position = record.start + record.size
        return record


class ChunkRun:
    """One attempt at a chunk, from where the last one left it.

    `pieces`, `records` and `cursor.tallies` hold what was made since then; a journal that commits them at a checkpoint
    calls `taken` afterwards.
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
        # A record may cross the chunk's end; what begins after it is the next chunk's.
        items: Iterator[Record] = processor.reads.read(window, rest) if begin < chunk.end else iter(())
        self.records = Records(items, begin)
        self.pieces: list[bytes] = []
        self.cursor = RecordCursor(journal, scope=chunk.start)
        self.safe = Safe(begin)
        self.first: int | None = None
        """Byte offset of the first record that is not done, where several are in work at a time."""

    def run(self) -> ChunkResult | ChunkFault:
        """Return what the processor makes of the chunk.

        Raises what reading the source raised, and `MemoryError`: those are crashes, which a retry may mend.
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
            self._interrupter.again()  # the processor may have caught it, and lost a record by that
        except MemoryError:
            raise
        except (Exception, SystemExit, Interrupted) as error:  # the processor's own code may raise anything
            self._interrupter.disarm()
            # What the chunk's input is comes before what the processor made of that.
            problem = self.records.failure or error
            if self.records.failure is not None and not isinstance(problem, UnsuitableInput):
                raise problem from error
            return ChunkFault(self.chunk, problem, self.records.begun if self.first is None else self.first)
        self.mark_safe(self.records.position, self.records.count)
        taken = self.take()
        return ChunkResult(self.chunk, taken.body, taken.records, taken.tallies)

    def mark_safe(self, position: int, records: int) -> None:
        """Note that everything made so far, of so many records up to this position, is whole.

        A failure after this point need not undo it.
        """
        self.safe.position = position
        self.safe.pieces = len(self.pieces)
        self.safe.records = records - self.safe.counted
        if self.cursor.tallies:
            self.safe.tallies.update(self.cursor.tallies)
            self.cursor.tallies.clear()

    def take(self) -> Taken:
        """Return what was made up to the last safe point, and begin to count anew from there."""
        safe = self.safe
        taken = Taken(safe.position, b"".join(self.pieces[: safe.pieces]), safe.records, dict(safe.tallies))
        del self.pieces[: safe.pieces]
        self.safe = Safe(safe.position, counted=safe.counted + safe.records)
        return taken


@dataclass
class Safe:
    """Up to where a chunk's processing is whole, and what was made until there since it was last taken."""

    position: int
    pieces: int = 0
    records: int = 0
    counted: int = 0
    tallies: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Taken:
    """What was made of a chunk between two checkpoints."""

    position: int
    body: bytes
    records: int
    tallies: Mapping[str, int]


def run_chunk(
    processor: Processor, window: Window, chunk: Chunk, journal: Journal | None = None
) -> ChunkResult | ChunkFault:
    """Return what the processor, made for this chunk alone, makes of it in one go."""
    return ChunkRun(processor, window, chunk, journal=journal).run()
