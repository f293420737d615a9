"""Reading an input forwards through one streaming request, and using a local file as an input."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from backhaul.model.chunk import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOOKAHEAD = 64 * 1024
"""Bytes requested beyond a chunk's end, for the record that crosses it."""
_BUFFER = 256 * 1024
_MAX_JUMP = 1024 * 1024
"""Bytes of the largest gap that is read through; a new request costs more time than that."""


class Window:
    """The part [start, end) of a source, which is read forwards; reading beyond the end costs another request.

    The first read opens the source at the window's position, so a `seek` before it costs nothing.
    """

    def __init__(self, source: Source, start: int = 0, end: int | None = None) -> None:
        self.source = source
        self.position = start
        """Offset in the input of the next byte to be read."""
        self._end = source.size if end is None else end
        self._stream: io.BufferedReader | None = None
        self._no_record = (-1, -1)

    def seek(self, position: int) -> None:
        """Move to any position: a short way ahead by reading through, anywhere else by a new request."""
        gap = position - self.position
        if self._stream is not None and 0 <= gap <= _MAX_JUMP:
            self.read(gap)
        elif gap:
            self.close()
            self.position = position

    def readline(self, limit: int) -> bytes:
        """Return the bytes up to and including the next LF, at most `limit` of them; empty at the input's end."""
        line = (self._stream or self._opened()).readline(limit)
        self.position += len(line)
        return line

    def readlines(self, end: int, limit: int) -> bytes:
        """Return all whole lines that are buffered and end by `end`; if there are none, one line as `readline` does."""
        stream = self._stream or self._opened()
        size = stream.peek().rfind(b"\n", 0, end - self.position) + 1
        lines = stream.read(size) if size else stream.readline(limit)
        self.position += len(lines)
        return lines

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only at the input's end."""
        data = (self._stream or self._opened()).read(size)
        self.position += len(data)
        return data

    def close(self) -> None:
        """Close the open request; the next read opens another."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def note_border(self, chunk_end: int) -> None:
        """Remember that the first record at or after the chunk's end begins at the present position."""
        self._no_record = (chunk_end, self.position)

    def known_border(self, start: int) -> int | None:
        """Return where the first record at or after `start` begins, or None if `note_border` has not shown it."""
        begin, border = self._no_record
        return border if begin <= start <= border else None

    def _opened(self) -> io.BufferedReader:
        self._stream = io.BufferedReader(_Ranges(self.source, self.position, self._end), _BUFFER)
        return self._stream


class _Ranges(io.RawIOBase):
    """A source from `start` on, read by range: the first range ends a little after `end`, and later ones grow."""

    def __init__(self, source: Source, start: int, end: int) -> None:
        super().__init__()
        self._source = source
        self._position = start
        self._range_end = max(start, end)
        self._step = LOOKAHEAD
        self._stream: BinaryIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if self._position >= self._source.size:
            return 0
        if self._stream is None or self._position >= self._range_end:
            self._stream = self._next_range()
        piece = self._stream.read(min(len(view), self._range_end - self._position))
        if not piece:
            raise OSError(f"the source ended at byte {self._position} of {self._source.size}")
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        super().close()

    def _next_range(self) -> BinaryIO:
        if self._stream is not None:
            self._stream.close()
        self._range_end = min(self._range_end + self._step, self._source.size)
        self._step *= 2
        return self._source.open(self._position, self._range_end)


@dataclass(frozen=True)
class FileSource:
    """A local file as an input; it must not change while it is read."""

    path: Path

    @cached_property
    def size(self) -> int:
        """Length in bytes when it was first asked for."""
        return self.path.stat().st_size

    def open(self, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end); the caller closes it."""
        return io.BufferedReader(_FileRange(self.path.open("rb", buffering=0), start, end))


class _FileRange(io.RawIOBase):
    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        super().__init__()
        self._file = file
        self._left = end - start
        file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        size = self._file.readinto(view[: self._left]) or 0
        self._left -= size
        return size

    def close(self) -> None:
        self._file.close()
        super().close()
