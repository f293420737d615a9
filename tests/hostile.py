"""Text that would do something to a terminal, and how to tell that it does not."""

from __future__ import annotations

import re
from typing import Any

CONTROLS = "".join(chr(code) for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t")
FORMATS = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\U000e0041"
SHOWN = "[red]evil[/red][/] [link=file:///x]x :bomb:"
"""What has to be seen of it: Rich would read all of this as markup."""
HOSTILE = f"{SHOWN}\x1b]0;owned\x07\x1b[2J\x9b2J{CONTROLS}{FORMATS}\\"

_OURS = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[lh]|(\r|\x1b\[1A)\x1b\[2K")
"""Colours, and what a progress bar does: hiding the cursor, and beginning its line anew."""


def harmful(text: str) -> set[str]:
    """Return what a terminal would do something for, but for our own colours and bars."""
    return set(_OURS.sub("", text)) & set(CONTROLS + FORMATS)


def assert_harmless(text: str, shows: str = SHOWN) -> None:
    """Check that a terminal only shows the text, and that the hostile text is in it, word for word."""
    assert not harmful(text)
    assert shows in _OURS.sub("", text)


def texts_in(value: Any) -> list[str]:
    """Return every text in what JSON says, names included."""
    if isinstance(value, dict):
        return [text for name, each in value.items() for text in (name, *texts_in(each))]
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    return [value] if isinstance(value, str) else []
