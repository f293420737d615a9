"""Lines of text, and JSON values with one on each line."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from backhaul.model.chunk import Chunk, Record, Source
from backhaul.model.errors import InvalidProcessor, UnsuitableInput
from backhaul.reading.raw import cut
from backhaul.reading.reader import Reader
from backhaul.reading.text import BOM, decode, refuse_other_encodings, too_long
from backhaul.reading.window import Window

MAX_RECORD_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Lines:
    """Read UTF-8 text line by line; a record's value is a `str` without its line ending.

    A line ends with LF or CRLF. A lone CR is an ordinary character. The last line needs no ending.
    A line may be longer than a chunk, but not than `max_record_bytes`.
    """

    max_record_bytes: int = MAX_RECORD_BYTES

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield chunks of `chunk_bytes`; only the first four bytes are read, to refuse UTF-16 and UTF-32."""
        refuse_other_encodings(source)
        yield from cut(source.size, chunk_bytes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the lines whose first byte lies in the chunk; raises `UnsuitableInput` for what is not text."""
        if not _seek_first_line(window, chunk):
            return
        limit = self.max_record_bytes
        while window.position < chunk.end:
            start = window.position
            # Many lines are decoded and split together, which halves the time per line.
            lines = window.readlines(chunk.end, limit + 1)
            if not lines:
                break
            if len(lines) > limit:
                _refuse_long(lines, start, limit)
            yield from _records(lines, start)
        window.note_border(chunk.end)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return a `str` or `bytes` with the input line's own ending; raises `InvalidProcessor` for other types."""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise InvalidProcessor(
                f"Return str, bytes or None for a line, not {type(value).__name__} (line at byte {record.start})."
            )
        return record.prefix + data + record.ending


def _records(lines: bytes, start: int) -> Iterator[Record]:
    """Yield each of these lines, the first of which begins at `start`; only the last may have no ending."""
    *ended, last = lines.split(b"\n")
    texts = decode(lines, start).split("\n")
    prefix = b""
    if start == 0 and lines.startswith(BOM):
        prefix, texts[0] = BOM, texts[0][1:]
    for line, text in zip(ended, texts, strict=False):
        size = len(line) + 1
        if text.endswith("\r"):
            yield Record(start, size, text[:-1], prefix, b"\r\n")
        else:
            yield Record(start, size, text, prefix, b"\n")
        start += size
        prefix = b""
    if last:
        yield Record(start, len(last), texts[-1], prefix)


def _refuse_long(lines: bytes, start: int, limit: int) -> None:
    for line in io.BytesIO(lines):
        if len(line) > limit:
            raise too_long(start, limit)
        start += len(line)


def _seek_first_line(window: Window, chunk: Chunk) -> bool:
    """Move to the chunk's first line; false if no line begins in the chunk."""
    border = window.known_border(chunk.start)
    if border is None:
        if chunk.start == 0:
            border = 0
        else:
            # One byte before the chunk: if that is an LF, a line begins exactly at the chunk's start.
            window.seek(chunk.start - 1)
            if not window.readline(chunk.end - chunk.start).endswith(b"\n"):
                return False
            border = window.position
    if border >= chunk.end:
        return False
    window.seek(border)
    return True


@dataclass(frozen=True)
class JsonLines(Lines):
    """Read JSON values, one on each line; a record's value is the parsed JSON, and blank lines are skipped.

    Only LF and CRLF end a line, because U+2028 and similar characters may stand inside a string.
    """

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the values whose line begins in the chunk; raises `UnsuitableInput` for a line that is not JSON."""
        for line in super().read(window, chunk):
            if line.value.strip(" \t\r"):
                yield Record(line.start, line.size, _parse(line), line.prefix, line.ending)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return the value as one line of compact JSON; raises `InvalidProcessor` for a value that JSON cannot hold."""
        return to_json(value, record) + (record.ending or b"\n")


@dataclass(frozen=True)
class AsJsonLines:
    """Read as another reader does, and write JSON Lines: UTF-8 without a byte order mark, LF after every line.

    A value becomes one line; a `list` becomes one line for each of its items.
    """

    reader: Reader

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the other reader's chunks."""
        return self.reader.split(source, chunk_bytes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the other reader's records."""
        return self.reader.read(window, chunk)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return lines of compact JSON; raises `InvalidProcessor` for a value that JSON cannot hold."""
        lines = value if isinstance(value, list) else [value]
        return b"".join(to_json(line, record) + b"\n" for line in lines)


def to_json(value: Any, record: Record) -> bytes:
    """Return compact JSON in UTF-8; raises `InvalidProcessor` for a value that JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidProcessor(
            f"What the processor returned for the record at byte {record.start} cannot be written as JSON: {error}."
        ) from error
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: legal as a JSON escape, but not in UTF-8
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(line: Record) -> Any:
    try:
        return _decoder.decode(line.value)
    except json.JSONDecodeError as error:
        raise _not_json(line, error.msg, len(line.value[: error.pos].encode())) from None
    except RecursionError:
        raise _not_json(line, "nested too deeply", 0) from None
    except ValueError as error:  # NaN, Infinity, or a number with thousands of digits
        raise _not_json(line, str(error), 0) from None


def _not_json(line: Record, problem: str, offset: int) -> UnsuitableInput:
    position = line.start + len(line.prefix) + offset
    return UnsuitableInput(
        f"The line that begins at byte {line.start} is not JSON: {problem}, at position {position}. "
        "Correct the line, or read the file as plain lines.",
        position,
    )
