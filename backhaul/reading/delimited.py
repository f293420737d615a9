"""Rows of delimited text with a header, such as CSV; quoted fields may hold any character (RFC 4180)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.model.errors import InvalidProcessor, UnsuitableInput
from backhaul.reading.grammar import Grammar
from backhaul.reading.lines import MAX_RECORD_BYTES, to_json
from backhaul.reading.raw import cut
from backhaul.reading.text import BOM, decode, refuse_other_encodings, too_long
from backhaul.reading.window import Window

_PIECE = 1024 * 1024
_NAMES_SHOWN = 5
_NAME_SHOWN = 40


@dataclass(frozen=True)
class _Header:
    names: tuple[str, ...]
    end: int
    """Offset of the first byte after the header."""


class Csv:
    """Read rows of UTF-8 text; a record's value is a `dict` from the header's names to the row's fields.

    Quoted fields may hold delimiters, line breaks and doubled quotes; blank lines between rows are skipped.
    Ambiguous text raises `UnsuitableInput` with its byte position: a quote inside an unquoted field, text
    after a closing quote, a lone CR outside quotes, a row with another number of fields than the header.
    """

    def __init__(self, delimiter: str = ",", max_record_bytes: int = MAX_RECORD_BYTES) -> None:
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ValueError(f"a delimiter is one ASCII character and no quote or line break, not {delimiter!r}")
        self.delimiter = delimiter
        self.max_record_bytes = max_record_bytes
        self._grammar = Grammar(delimiter)
        self._latest: tuple[Source, _Header] | None = None

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield chunks of `chunk_bytes`, reading the file once to count its quotes; raises `UnsuitableInput`."""
        refuse_other_encodings(source)
        self._header(source)
        quotes = _Quotes()
        with closing(Window(source)) as window:
            for chunk in cut(source.size, chunk_bytes):
                yield replace(chunk, quoted=quotes.are_odd)
                while window.position < chunk.end:
                    quotes.add(window.read(min(_PIECE, chunk.end - window.position)))
        if quotes.are_odd:
            raise self._fault(source, quotes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the rows whose first byte lies in the chunk; raises `UnsuitableInput` for a bad row."""
        header = self._header(window.source)
        if not _seek_first_row(window, chunk, header.end):
            return
        while window.position < chunk.end:
            start = window.position
            row, ending = self._next_row(window)
            size = window.position - start
            if not size:
                break
            if row:
                yield Record(start, size, self._value(row, start, header), ending=ending)
        window.note_border(chunk.end)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return a `dict` or `list` as a line of JSON, and a `str` or `bytes` with a line ending.

        Raises `InvalidProcessor` for other types.
        """
        if isinstance(value, (dict, list)):
            return to_json(value, record) + b"\n"
        if isinstance(value, str):
            return value.encode() + b"\n"
        if isinstance(value, bytes):
            return value + b"\n"
        raise InvalidProcessor(
            f"Return dict, list, str, bytes or None for a row, not {type(value).__name__} (row at byte {record.start})."
        )

    def _header(self, source: Source) -> _Header:
        latest = self._latest
        if latest is None or latest[0] is not source:
            latest = self._latest = source, self._read_header(source)
        return latest[1]

    def _read_header(self, source: Source) -> _Header:
        with closing(Window(source, 0, 0)) as window:
            row, start = b"", 0
            while not row and window.position < source.size:
                start = window.position
                row, _ = self._next_row(window)
                if start == 0 and row.startswith(BOM):
                    row, start = row[len(BOM) :], len(BOM)
            names = self._grammar.fields(decode(row, start), start)
            _check_names(names, start)
            return _Header(tuple(names), window.position)

    def _value(self, row: bytes, start: int, header: _Header) -> dict[str, str]:
        fields = self._grammar.fields(decode(row, start), start)
        if len(fields) != len(header.names):
            raise UnsuitableInput(
                f"The row that begins at byte {start} has {len(fields)} fields, but the header names "
                f"{len(header.names)}. Correct the row, or quote the delimiters inside its fields.",
                start,
            )
        return dict(zip(header.names, fields, strict=True))

    def _next_row(self, window: Window) -> tuple[bytes, bytes]:
        """Read lines until their quotes balance; return the row and its line ending."""
        start, limit = window.position, self.max_record_bytes + 1
        row = window.readline(limit)
        quotes = row.count(b'"')
        if quotes % 2:
            lines = [row]
            while quotes % 2 and (line := window.readline(start + limit - window.position)):
                lines.append(line)
                quotes += line.count(b'"')
            row = b"".join(lines)
        if len(row) == limit:
            raise too_long(start, self.max_record_bytes, "; perhaps a quote in it is never closed")
        if row.endswith(b"\r\n"):
            return row[:-2], b"\r\n"
        return (row[:-1], b"\n") if row.endswith(b"\n") else (row, b"")

    def _fault(self, source: Source, quotes: _Quotes) -> UnsuitableInput:
        # An odd number of quotes shows that one is wrong, but only reading the rows shows which, and the planner has no
        # time to read all rows of a large file. After a wrong quote no stretch reads well: its quoted and unquoted text
        # are exchanged. So a binary search finds the first bad stretch. Its fault is real: a worker would meet it too.
        stretches = quotes.stretches()
        found = bisect_left(stretches, True, key=lambda stretch: not self._has_good_rows(source, stretch))
        try:
            for stretch in stretches[found : found + 1]:
                self._count_rows(source, stretch)
        except UnsuitableInput as fault:
            return fault
        return UnsuitableInput(
            "The file is not CSV: it has an odd number of quotes, so the last one begins a quoted field that is never "
            f"closed, at position {quotes.last}. A quote before it may be the wrong one.",
            quotes.last,
        )

    def _has_good_rows(self, source: Source, stretch: Chunk) -> bool:
        try:
            return self._count_rows(source, stretch) > 0
        except UnsuitableInput:
            return False

    def _count_rows(self, source: Source, stretch: Chunk) -> int:
        with closing(Window(source, stretch.start, stretch.end)) as window:
            return sum(1 for _ in self.read(window, stretch))


class _Quotes:
    """Counts a file's quotes, one piece after the other, and remembers the count at about every megabyte."""

    def __init__(self) -> None:
        self.last = 0
        """Offset of the last quote."""
        self._position = 0
        self._count = 0
        self._marks = [(0, 0)]

    @property
    def are_odd(self) -> bool:
        """Whether the next byte lies inside a quoted field."""
        return self._count % 2 == 1

    def add(self, piece: bytes) -> None:
        """Count the quotes of the next piece."""
        count = piece.count(b'"')
        if count:
            self.last = self._position + piece.rindex(b'"')
        self._count += count
        self._position += len(piece)
        if self._position - self._marks[-1][0] >= _PIECE:
            self._marks.append((self._position, self._count))

    def stretches(self) -> list[Chunk]:
        """Return the parts of the file that contain quotes, each about a megabyte long."""
        marks = [*self._marks, (self._position, self._count)]
        return [
            Chunk(0, start, end, quoted=before % 2 == 1)
            for (start, before), (end, after) in pairwise(marks)
            if after > before
        ]


def _seek_first_row(window: Window, chunk: Chunk, header_end: int) -> bool:
    """Move to the chunk's first row; false if no row begins in the chunk."""
    border = header_end if chunk.start <= header_end else window.known_border(chunk.start)
    if border is None:
        border = _find_border(window, chunk)
    if border is None or border >= chunk.end:
        return False
    window.seek(border)
    return True


def _find_border(window: Window, chunk: Chunk) -> int | None:
    """Return the position after the first line break outside quotes, or None if the chunk has none.

    The plan says whether the chunk begins inside a quoted field.
    """
    window.seek(chunk.start - 1)
    quoted = chunk.quoted
    if window.read(1) == b"\n" and not quoted:
        return window.position
    while left := chunk.end - 1 - window.position:
        line = window.readline(left)
        quoted ^= line.count(b'"') % 2 == 1
        if line.endswith(b"\n") and not quoted:
            return window.position
        if not line:
            break
    return None


def _check_names(names: list[str], start: int) -> None:
    if any(not name.strip() for name in names):
        raise UnsuitableInput(f"The header at byte {start} leaves a column without a name; name every column.", start)
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UnsuitableInput(
            f"The header at byte {start} repeats {_some(repeated)}; give every column its own name.", start
        )


def _some(names: list[str]) -> str:
    shown = [repr(name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}...") for name in names[:_NAMES_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
