"""The contract of a reader, which cuts and reads one kind of file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.reading.window import Window


class Reader(Protocol):
    """Cuts one kind of file into chunks and reads them as records."""

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield chunks in order, which together cover the input."""

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the records that begin in the chunk; every record belongs to exactly one chunk."""

    def encode(self, value: Any, record: Record) -> bytes:
        """Return the bytes to write for a value that `process` returned for the record."""
