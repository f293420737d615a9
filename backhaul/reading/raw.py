"""Cutting a file every so many bytes, and reading each chunk as one record of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.model.errors import InvalidProcessor
from backhaul.reading.window import Window


def cut(size: int, chunk_bytes: int) -> Iterator[Chunk]:
    """Yield chunks of `chunk_bytes` that together cover `size` bytes; the last may be shorter."""
    for index, start in enumerate(range(0, size, chunk_bytes)):
        yield Chunk(index, start, min(start + chunk_bytes, size))


@dataclass(frozen=True)
class Bytes:
    """Read each chunk as one record; its value is `bytes`."""

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield chunks of `chunk_bytes` without reading anything."""
        return cut(source.size, chunk_bytes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the chunk's bytes."""
        window.seek(chunk.start)
        data = window.read(chunk.end - chunk.start)
        yield Record(chunk.start, len(data), data)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return the bytes unchanged; raises `InvalidProcessor` for other types."""
        if not isinstance(value, bytes):
            raise InvalidProcessor(
                f"Return bytes for what Bytes reads, not {type(value).__name__} (chunk at byte {record.start})."
            )
        return value
