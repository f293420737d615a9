"""Lines of text, and JSON values one to a line."""

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

    A line ends with LF or CRLF; a lone CR is an ordinary character, and a last line without an ending counts.
    A line may be longer than a chunk, but not than `max_record_bytes`.
    """

    max_record_bytes: int = MAX_RECORD_BYTES

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield nominal chunks, having looked at the first four bytes only."""
        refuse_other_encodings(source)
        yield from cut(source.size, chunk_bytes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the lines whose first byte lies in the chunk; raises `UnsuitableInput` for what is not text."""
        if not _seek_first_line(window, chunk):
            return
        limit = self.max_record_bytes
        while window.position < chunk.end:
            start = window.position
            # Many lines at once: decoding and splitting them together halves the time a line takes.
            lines = window.readlines(chunk.end, limit + 1)
            if not lines:
                break
            if len(lines) > limit:
                _refuse_long(lines, start, limit)
            yield from _records(lines, start)
        window.note_border(chunk.end)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return a `str` or `bytes` with what stood around the line; raises `InvalidProcessor` for other types."""
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise InvalidProcessor(
                f"Return str, bytes or None for a line, not {type(value).__name__} (line at byte {record.start})."
            )
        return record.prefix + data + record.ending


def _records(lines: bytes, start: int) -> Iterator[Record]:
    """Yield the lines that begin at `start`; only the last may lack its ending."""
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
    """Go to where the chunk's first line begins; false if none begins in it."""
    border = window.known_border(chunk.start)
    if border is None:
        if chunk.start == 0:
            border = 0
        else:
            # From the byte before: if that is an LF, a line begins exactly at the chunk's start.
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
    """Read JSON values, one to a line; a record's value is what the JSON says, and blank lines are skipped.

    Only LF and CRLF end a line: U+2028 and its like may stand inside a string.
    """

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the values whose line begins in the chunk; raises `UnsuitableInput` for what is not JSON."""
        for line in super().read(window, chunk):
            if line.value.strip(" \t\r"):
                yield Record(line.start, line.size, _parse(line), line.prefix, line.ending)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return the value as one line of compact JSON; raises `InvalidProcessor` for what JSON cannot hold."""
        return to_json(value, record) + (record.ending or b"\n")


@dataclass(frozen=True)
class AsJsonLines:
    """Read as another reader does, and write JSON Lines: UTF-8 without a mark, and LF after every line.

    A value is one line, and a `list` a line for each of its items.
    """

    reader: Reader

    def split(self, source: Source, chunk_bytes: int) -> Iterator[Chunk]:
        """Yield the other reader's chunks."""
        return self.reader.split(source, chunk_bytes)

    def read(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        """Yield the other reader's records."""
        return self.reader.read(window, chunk)

    def encode(self, value: Any, record: Record) -> bytes:
        """Return compact JSON; raises `InvalidProcessor` for what JSON cannot hold."""
        lines = value if isinstance(value, list) else [value]
        return b"".join(to_json(line, record) + b"\n" for line in lines)


def to_json(value: Any, record: Record) -> bytes:
    """Return compact JSON in UTF-8; raises `InvalidProcessor` for what JSON cannot hold."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InvalidProcessor(
            f"What the processor returned for the record at byte {record.start} is no JSON: {error}."
        ) from error
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: legal as a JSON escape, but not as UTF-8
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(line: Record) -> Any:
    try:
        return _decoder.decode(line.value)
    except json.JSONDecodeError as error:
        raise _not_json(line, error.msg, len(line.value[: error.pos].encode())) from None
    except RecursionError:
        raise _not_json(line, "nested too deeply", 0) from None
    except ValueError as error:  # NaN, Infinity, or a number of thousands of digits
        raise _not_json(line, str(error), 0) from None


def _not_json(line: Record, problem: str, offset: int) -> UnsuitableInput:
    position = line.start + len(line.prefix) + offset
    return UnsuitableInput(
        f"The line that begins at byte {line.start} is not JSON: {problem}, at position {position}. "
        "Mend the line, or read the file as plain lines.",
        position,
    )
