"""The contract of a reader: how a kind of file is cut and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.reading.window import Window


class Reader(Protocol):
    """How a kind of file is cut into chunks and read as records."""

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the chunks in order, together covering the input."""

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the records that begin in the chunk; every record belongs to exactly one."""

    def encode(self, value: Any, record: Record) -> bytes:
        """Return the bytes to write for what `process` made of the record."""
