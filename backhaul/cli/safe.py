"""Text from outside on its way to a terminal: nothing in it moves a cursor, sets a colour or turns writing around.

The one place that decides which characters a terminal gets. `Console` cleans everything that is printed with it;
`plain` also keeps Rich's markup from being read in the text.
"""

from __future__ import annotations

import codecs
import json
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, BinaryIO, cast

import rich.console
import rich.markup
from rich.segment import Segment

_REPLACEMENT = ord("\N{REPLACEMENT CHARACTER}")


def _is_harmless(char: str) -> bool:
    """Return whether a terminal only shows the character: C0, C1, DEL and all format controls do more than that."""
    return char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs"


class _Shown(dict[int, int]):
    """What a terminal gets for each code point; a table for `str.translate` that is made as it is used."""

    def __missing__(self, code: int) -> int:
        self[code] = code if _is_harmless(chr(code)) else _REPLACEMENT
        return self[code]


class _Escaped(dict[int, "int | str"]):
    """What JSON has for each code point: an escape such as \\u001b where a terminal would do more than show it."""

    def __missing__(self, code: int) -> int | str:
        char = chr(code)
        self[code] = code if _is_harmless(char) else json.dumps(char)[1:-1]
        return self[code]


_shown = _Shown()
_escaped = _Escaped()


def printable(text: str) -> str:
    """Return text with a replacement character for each one that a terminal would not only show."""
    return text.translate(_shown)


def plain(text: str) -> str:
    """Return text of any origin as Rich markup that shows it and does nothing else."""
    return rich.markup.escape(printable(text))


def escaped_json(document: str) -> str:
    """Return a JSON document of the same meaning that a terminal only shows."""
    return document.translate(_escaped)


class Console(rich.console.Console):
    """A console that shows text and never obeys it; Rich's own colours and cursor movements stay."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, emoji=False, **options)

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of what is printed, cleaned; everything that reaches the terminal comes through here."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def stdout_bytes() -> BinaryIO:
    """Return where an output goes that is written to stdout: to a program byte by byte, to a terminal as text."""
    return cast(BinaryIO, _Terminal()) if sys.stdout.isatty() else sys.stdout.buffer


class _Terminal:
    """Shows bytes as text; a line ends with a line feed, also where they have a carriage return before it."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = ""

    def write(self, piece: bytes) -> int:
        text = self._held + self._decode(piece)
        self._held = "\r" if text.endswith("\r") else ""
        shown = printable(text.removesuffix("\r").replace("\r\n", "\n"))
        sys.stdout.buffer.write(shown.encode(sys.stdout.encoding, errors="replace"))
        return len(piece)
