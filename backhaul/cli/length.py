"""A length of time as one writes it on the command line: seconds, or 90m, 2h, 1d."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_LENGTH = re.compile(r"([0-9]{1,9})([smhd]?)")


def seconds_of(text: str) -> int | None:
    """Return how many seconds a length of time has, or None if the text is none."""
    found = _LENGTH.fullmatch(text)
    return None if found is None else int(found[1]) * _UNITS[found[2] or "s"]


def in_largest_unit(seconds: int) -> str:
    """Return a length of time in the largest unit that makes it a whole number."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
