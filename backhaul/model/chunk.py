"""The parts of an input: the source, its chunks and their records."""

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
    """One record: its value, and the bytes around it that a processor must keep to write the record back."""

    start: int
    """Offset of the record's first byte in the input."""
    size: int
    """The record's length in the input in bytes, with its prefix and its line ending."""
    value: Any
    prefix: bytes = b""
    """The byte-order mark before the record; empty if there is none."""
    ending: bytes = b""
    """The record's line ending as found: LF, CRLF or nothing."""


class Source(Protocol):
    """A pinned input that can be read at any offset."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def open(self, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end); the caller closes it."""
