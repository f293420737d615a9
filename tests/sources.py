"""Inputs in memory, and chunks read as the stages read them: one window for each shard."""

import io
from contextlib import closing
from dataclasses import dataclass, field
from typing import BinaryIO

from backhaul.reading import Chunk, Reader, Record, Window


@dataclass(eq=False)
class MemorySource:
    """Bytes as an input; notes which ranges were opened."""

    data: bytes
    opened: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def bytes_asked_for(self) -> int:
        return sum(end - start for start, end in self.opened)

    def open(self, start: int, end: int) -> BinaryIO:
        assert 0 <= start <= end <= self.size
        self.opened.append((start, end))
        return io.BytesIO(self.data[start:end])


def read_chunks(reader: Reader, source: MemorySource, chunks: list[Chunk]) -> list[Record]:
    """Read adjacent chunks through one window, as one worker does."""
    with closing(Window(source, chunks[0].start, chunks[-1].end)) as window:
        return [record for chunk in chunks for record in reader.read(window, chunk)]


def read_all(reader: Reader, data: bytes, chunk_bytes: int, chunks_per_shard: int = 1) -> list[Record]:
    """Split and read everything, shard by shard."""
    source = MemorySource(data)
    chunks = list(reader.split(source, chunk_bytes))
    shards = [chunks[first : first + chunks_per_shard] for first in range(0, len(chunks), chunks_per_shard)]
    return [record for shard in shards for record in read_chunks(reader, source, shard)]


def read_at_once(reader: Reader, data: bytes) -> list[Record]:
    """Read everything as one chunk."""
    return read_all(reader, data, max(len(data), 1))
