"""One chunk through its processor: the same in a worker and in a trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backhaul.errors import UnsuitableInput
from backhaul.flow.failure import Watched, only_bytes, processor_cause
from backhaul.processor import Context, Processor
from backhaul.reading import Chunk, Window
from backhaul.shard import FailedChunk


@dataclass(frozen=True)
class ChunkResult:
    """What the processor made of one chunk."""

    chunk: Chunk
    body: bytes
    records: int
    tallies: Mapping[str, int]


@dataclass(frozen=True)
class ChunkFault:
    """What kept a chunk from having a result: the `UnsuitableInput` in it, or what the processor raised."""

    chunk: Chunk
    error: Exception | SystemExit

    def to_failed(self) -> FailedChunk:
        """Return it as a shard's record holds it."""
        return FailedChunk(self.chunk.index, self.chunk.start, self.chunk.end, processor_cause(self.error))


def run_chunk(processor: Processor, window: Window, chunk: Chunk) -> ChunkResult | ChunkFault:
    """Return what the processor, made for this chunk alone, makes of it.

    Raises what reading the source raised, and `MemoryError`: those are crashes, which a retry may mend.
    """
    records = Watched(processor.reads.read(window, chunk))
    ctx = Context()
    try:
        body = b"".join(only_bytes(processor.process_chunk(records, ctx), "process_chunk"))
        records.raise_failure()
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # the processor's own code may raise anything
        # What the chunk's input is comes before what the processor made of that.
        problem = records.failure or error
        if records.failure is not None and not isinstance(problem, UnsuitableInput):
            raise problem from error
        return ChunkFault(chunk, problem)
    return ChunkResult(chunk, body, records.count, dict(ctx.tallies))
