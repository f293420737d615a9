"""A shard: consecutive chunks that one worker handles, and the rules that cut a job into shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from backhaul.model.chunk import Chunk
from backhaul.model.errors import InvalidOption, InvalidRequest
from backhaul.model.versions import VERSIONS, StoredRecord, upgraded

KIB = 1024
MIB = 1024 * KIB

MAX_CHUNKS = 100_000
"""The most chunks a job may have; their borders have to fit into the planner's memory."""
_CHUNKS_PER_JOB = 64
_MIN_CHUNK_BYTES = 256 * KIB
_MAX_CHUNK_BYTES = 8 * MIB
_SHARDS_PER_JOB = 16
_MAX_CHUNKS_PER_SHARD = 64


@dataclass(frozen=True)
class Shard:
    """Adjacent chunks that one Map child handles."""

    index: int
    chunks: tuple[Chunk, ...]
    skip: frozenset[int] = frozenset()
    """Numbers of the chunks that this run leaves as they are."""

    def to_line(self) -> bytes:
        """Return the shard as one line of the plan; adjacent chunks share their borders."""
        bounds = [chunk.start for chunk in self.chunks] + [self.chunks[-1].end]
        quoted = [chunk.index for chunk in self.chunks if chunk.quoted]
        line = _Line(
            self.index, self.chunks[0].index, bounds, quoted, sorted(self.skip), VERSIONS[StoredRecord.PLAN_LINE]
        )
        return msgspec.json.encode(line) + b"\n"

    @classmethod
    def from_value(cls, value: object) -> Shard:
        """Return the shard that a decoded line of the plan describes; raises `UnreadableRecord`."""
        named = upgraded(StoredRecord.PLAN_LINE, value, "a shard in the plan") if isinstance(value, Mapping) else value
        line = msgspec.convert(named, _Line)
        pairs = zip(line.bounds, line.bounds[1:], strict=False)
        chunks = (
            Chunk(number, start, end, quoted=number in line.quoted)
            for number, (start, end) in enumerate(pairs, start=line.first_chunk)
        )
        return cls(line.shard, tuple(chunks), frozenset(line.skip))


@dataclass(frozen=True)
class _Line:
    shard: int
    first_chunk: int
    bounds: list[int]
    quoted: list[int]
    skip: list[int] = field(default_factory=list)
    schema_version: int = 1


def choose_chunk_bytes(size: int) -> int:
    """Return the nominal chunk size in bytes: enough chunks to share among workers, few enough to be cheap."""
    return min(max(size // _CHUNKS_PER_JOB, _MIN_CHUNK_BYTES), _MAX_CHUNK_BYTES)


def plan_shards(chunks: Sequence[Chunk]) -> Iterator[Shard]:
    """Yield the shards of a job: about 16, or more if one would hold more than 64 chunks."""
    each = _chunks_per_shard(len(chunks))
    for index, first in enumerate(range(0, len(chunks), each)):
        yield Shard(index, tuple(chunks[first : first + each]))


def shards_for(chunks: int) -> int:
    """Return how many shards a job of so many chunks has."""
    return -(-chunks // _chunks_per_shard(chunks))


def _chunks_per_shard(chunks: int) -> int:
    return min(max(-(-chunks // _SHARDS_PER_JOB), 1), _MAX_CHUNKS_PER_SHARD)


def check_size(size: int, largest: int, chunk_bytes: int | None) -> None:
    """Raise `InvalidRequest` for a file that is empty, too large, or cut into too many chunks; sizes in bytes."""
    if size < 1:
        raise InvalidRequest("The file is empty; there is nothing to process.")
    if size > largest:
        raise InvalidRequest(f"The file has {size:,} bytes; this deployment takes {largest:,} at most.")
    if chunk_bytes is not None and size > chunk_bytes * MAX_CHUNKS:
        raise InvalidOption(
            f"chunk_bytes={chunk_bytes} would cut the file into more than {MAX_CHUNKS:,} chunks; "
            f"use at least {-(-size // MAX_CHUNKS)}."
        )


def check_chunks(chunks: Sequence[Chunk], size: int) -> str | None:
    """Return what is wrong with a processor's split of an input of `size` bytes, or None if it covers the input."""
    if not 1 <= len(chunks) <= MAX_CHUNKS:
        return f"The processor split the file into {len(chunks):,} chunks; 1 to {MAX_CHUNKS:,} are allowed."
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
