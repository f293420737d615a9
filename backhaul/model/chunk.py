"""What an input consists of: the source, its chunks and their records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import msgspec


@dataclass(frozen=True)
class Chunk:
    """A nominal byte range [start, end) of the input; a reader moves both ends to record borders."""

    index: int
    start: int
    end: int
    quoted: bool = False
    """Whether `start` lies inside a quoted field (CSV only)."""


# A struct and not a dataclass: one is made for every line, and this takes a ninth of the time.
class Record(msgspec.Struct, frozen=True, gc=False):
    """One record: its value, and the bytes around it that a map must keep."""

    start: int
    """Offset of its first byte in the input."""
    size: int
    """Bytes it takes in the input, all included."""
    value: Any
    prefix: bytes = b""
    """A byte-order mark before it."""
    ending: bytes = b""
    """Its line ending as found: LF, CRLF or nothing."""


class Source(Protocol):
    """A pinned input that can be read at any offset."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def open(self, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end); the caller closes it."""
