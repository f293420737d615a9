"""A shard: consecutive chunks that one worker handles, how they are chosen, and what is committed of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from backhaul.job import Cause, Counts
from backhaul.reading import Chunk
from backhaul.tallies import sum_tallies

KIB = 1024
MIB = 1024 * KIB

CHUNKS_MAX = 100_000
"""The most chunks a job may have; their borders have to fit into the planner's memory."""
_CHUNKS_PER_JOB = 64
_CHUNK_BYTES_SMALLEST = 256 * KIB
_CHUNK_BYTES_LARGEST = 8 * MIB
_SHARDS_PER_JOB = 16
_CHUNKS_PER_SHARD_MOST = 64


@dataclass(frozen=True)
class Shard:
    """Adjacent chunks to be handled by one Map child."""

    index: int
    chunks: tuple[Chunk, ...]

    def to_line(self) -> bytes:
        """Return the shard as one line of the plan; adjacent chunks share their borders."""
        bounds = [chunk.start for chunk in self.chunks] + [self.chunks[-1].end]
        quoted = [chunk.index for chunk in self.chunks if chunk.quoted]
        return msgspec.json.encode(_Line(self.index, self.chunks[0].index, bounds, quoted)) + b"\n"

    @classmethod
    def from_value(cls, value: object) -> Shard:
        """Return the shard that a decoded line of the plan describes."""
        line = msgspec.convert(value, _Line)
        pairs = zip(line.bounds, line.bounds[1:], strict=False)
        chunks = (
            Chunk(number, start, end, quoted=number in line.quoted)
            for number, (start, end) in enumerate(pairs, start=line.first_chunk)
        )
        return cls(line.shard, tuple(chunks))


@dataclass(frozen=True)
class _Line:
    shard: int
    first_chunk: int
    bounds: list[int]
    quoted: list[int]


def choose_chunk_bytes(size: int) -> int:
    """Return the nominal chunk size for an input: enough chunks to spread, few enough to be cheap."""
    return min(max(size // _CHUNKS_PER_JOB, _CHUNK_BYTES_SMALLEST), _CHUNK_BYTES_LARGEST)


def plan_shards(chunks: Sequence[Chunk]) -> Iterator[Shard]:
    """Yield the shards of a job: about 16 until a shard would hold more than 64 chunks."""
    each = min(max(-(-len(chunks) // _SHARDS_PER_JOB), 1), _CHUNKS_PER_SHARD_MOST)
    for index, first in enumerate(range(0, len(chunks), each)):
        yield Shard(index, tuple(chunks[first : first + each]))


def check_chunks(chunks: Sequence[Chunk], size: int) -> str | None:
    """Return what is wrong with a processor's split of an input of `size` bytes, or None if it covers it exactly."""
    if not 1 <= len(chunks) <= CHUNKS_MAX:
        return f"The processor split the file into {len(chunks):,} chunks; 1 to {CHUNKS_MAX:,} work."
    border = 0
    for index, chunk in enumerate(chunks):
        if chunk.index != index:
            return f"The split's chunk {index} says that its index is {chunk.index}; chunks count from 0."
        if chunk.start != border or chunk.end <= chunk.start:
            span = f"[{chunk.start:,}, {chunk.end:,})"
            return f"The split's chunk {index} is {span}; it must begin at {border:,} and hold at least a byte."
        border = chunk.end
    if border != size:
        return f"The split ends at byte {border:,} of {size:,}; its chunks must cover the whole file."
    return None


@dataclass(frozen=True)
class Part:
    """One commit: an object that holds the results of some chunks, end to end."""

    attempt: int
    number: int
    lengths: tuple[tuple[int, int], ...]
    """(chunk, bytes of its result), in the order in which they lie in the object."""


@dataclass(frozen=True)
class FailedChunk:
    """A chunk that could not be processed, and why."""

    index: int
    start: int
    end: int
    cause: Cause


@dataclass(frozen=True)
class ShardRecord:
    """What is committed of a shard; the attempt is the fencing token of every write."""

    index: int
    attempt: int = 0
    handed_over: int = 0
    """The last attempt that ended by itself with work left; 0 before any did."""
    finished: bool = False
    """Whether every chunk is either committed or failed."""
    chunks: int = 0
    parts: tuple[Part, ...] = ()
    failed: tuple[FailedChunk, ...] = ()
    records: int = 0
    bytes_done: int = 0
    tallies: Mapping[str, int] = field(default_factory=dict)
    crash: Cause | None = None
    """What Step Functions said of the last worker that died."""

    @property
    def chunks_done(self) -> int:
        """How many chunks are committed."""
        return sum(len(part.lengths) for part in self.parts)

    def settled(self) -> frozenset[int]:
        """Return the chunks that need no more work: committed or failed."""
        committed = (index for part in self.parts for index, _ in part.lengths)
        return frozenset(committed) | {chunk.index for chunk in self.failed}


def count(records: Collection[ShardRecord], *, shards: int, chunks: int, chunks_failed: int) -> Counts:
    """Return what a job has done, from its shard records and from what its plan holds."""
    return Counts(
        shards=shards,
        chunks=chunks,
        chunks_done=sum(record.chunks_done for record in records),
        chunks_failed=chunks_failed,
        records=sum(record.records for record in records),
        bytes_done=sum(record.bytes_done for record in records),
        attempts=sum(record.attempt for record in records),
        tallies=sum_tallies(record.tallies for record in records),
    )
