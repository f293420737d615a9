"""Checks that every reader of text shares: bytes that are not UTF-8 are refused."""

from __future__ import annotations

import codecs
from contextlib import closing

from backhaul.model.chunk import Source
from backhaul.model.errors import UnsuitableInput

BOM = codecs.BOM_UTF8
# UTF-32 comes first, because its little-endian mark begins with the mark of UTF-16.
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def refuse_other_encodings(source: Source) -> None:
    """Read the first four bytes; raises `UnsuitableInput` for the byte order mark of UTF-16 or UTF-32."""
    with closing(source.open(0, min(4, source.size))) as stream:
        head = stream.read()
    for mark, encoding in _OTHER_MARKS.items():
        if head.startswith(mark):
            raise UnsuitableInput(f"The file is {encoding} text (byte-order mark at byte 0); convert it to UTF-8.", 0)


def decode(data: bytes, start: int) -> str:
    """Return bytes as text; raises `UnsuitableInput` for bad UTF-8 and NUL. `start` is their offset in the file."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = start + data.rfind(b"\n", 0, error.start) + 1
        raise _not_utf8(data[error.start], start + error.start, line) from None
    if "\0" in text:
        raise _not_text(start + data.index(b"\0"))
    return text


def _not_utf8(byte: int, position: int, line: int) -> UnsuitableInput:
    return UnsuitableInput(
        f"The file is not UTF-8: byte {byte:#04x} at position {position}, in the line that begins "
        f"at {line}. Convert the file to UTF-8.",
        position,
    )


def _not_text(position: int) -> UnsuitableInput:
    return UnsuitableInput(
        f"The file is not text: NUL byte at position {position}. Convert UTF-16 to UTF-8; "
        "binary files need a processor that reads Bytes.",
        position,
    )


def too_long(start: int, limit: int, suspicion: str = "") -> UnsuitableInput:
    """Return the error for a record that is longer than `limit` bytes."""
    return UnsuitableInput(
        f"The record that begins at byte {start} is longer than {limit:,} bytes{suspicion}. "
        "Split it, or raise the reader's max_record_bytes.",
        start,
    )
