"""The grammar of a row of delimited text (RFC 4180)."""

from __future__ import annotations

import re

from backhaul.model.errors import UnsuitableInput


class Grammar:
    """The grammar of a row with one delimiter.

    The csv module does not serve here: even in strict mode it takes a quote inside an unquoted field as text,
    and its limit on a field's length holds for the whole process.
    """

    def __init__(self, delimiter: str) -> None:
        mark = re.escape(delimiter)
        quoted = '"(?:[^"]++|"")*+"'
        self._delimiter = delimiter
        self._field = re.compile(rf'{quoted}|[^{mark}"\r\n]*+')
        self._row = re.compile(rf'(?:{quoted}|[^{mark}"\r\n]*+)(?:{mark}(?:{quoted}|[^{mark}"\r\n]*+))*+')
        self._fields = re.compile(rf'(?:\A|{mark})(?:"((?:[^"]++|"")*+)"|([^{mark}]*+))')

    def fields(self, row: str, start: int) -> list[str]:
        """Return the fields of a row that begins at byte `start`; raises `UnsuitableInput` at its first fault."""
        if '"' not in row and "\r" not in row:
            return row.split(self._delimiter)
        if not self._row.fullmatch(row):
            raise self._fault(row, start)
        return [quoted.replace('""', '"') or plain for quoted, plain in self._fields.findall(row)]

    def _fault(self, row: str, start: int) -> UnsuitableInput:
        begin, end = 0, self._field_end(row, 0)
        while row[end : end + 1] == self._delimiter:
            begin, end = end + 1, self._field_end(row, end + 1)
        position = start + len(row[:end].encode())
        return UnsuitableInput(
            f"The row that begins at byte {start} is not CSV: {_problem(row, begin, end)}, at position {position}.",
            position,
        )

    def _field_end(self, row: str, begin: int) -> int:
        match = self._field.match(row, begin)
        return match.end() if match else begin


def _problem(row: str, begin: int, end: int) -> str:
    if row[end] == "\r":
        return "a carriage return without a line feed outside quotes; end lines with LF or CRLF"
    if row[end] != '"':
        return "text after a closing quote; write a quote inside a quoted field twice"
    if begin == end:
        return "a quoted field that is never closed; close it"
    return "a quote inside an unquoted field; quote the whole field and write the quote twice"
