"""A provider's limits from an answer's headers, as OpenAI, Azure, Anthropic and others name them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from backhaul.providers.calls import RateLimits

T = TypeVar("T")

MAX_WAIT = 24 * 3600.0
"""The longest wait in seconds that is accepted from a header."""
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_EPOCH = 10**9
"""The smallest number of seconds that is read as a point in time instead of a duration."""
_MOST = ("x-ratelimit-limit-{}", "anthropic-ratelimit-{}-limit")
_LEFT = ("x-ratelimit-remaining-{}", "anthropic-ratelimit-{}-remaining")
_RESET = ("x-ratelimit-reset-{}", "anthropic-ratelimit-{}-reset")


def read_limits(headers: Mapping[str, str], now: datetime) -> RateLimits | None:
    """Return the limits in the headers, whose names are in lower case; None if they have none."""
    names = {"requests": ("requests",), "tokens": ("tokens", "input-tokens")}
    limits = RateLimits(
        requests_limit=_first(_count(headers.get(each)) for each in _named(_MOST, names["requests"])),
        tokens_limit=_first(_count(headers.get(each)) for each in _named(_MOST, names["tokens"])),
        requests_left=_first(_count(headers.get(each)) for each in _named(_LEFT, names["requests"])),
        tokens_left=_first(_count(headers.get(each)) for each in _named(_LEFT, names["tokens"])),
        requests_reset=_first(_seconds(headers.get(each), now) for each in _named(_RESET, names["requests"])),
        tokens_reset=_first(_seconds(headers.get(each), now) for each in _named(_RESET, names["tokens"])),
    )
    return None if limits == RateLimits() else limits


def read_retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return how many seconds an answer asks the caller to wait; None if it does not say."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    asked = headers.get("retry-after", "").strip()
    if _number(asked) is not None:
        return _bounded(float(asked))
    # A date is compared with the answer's own date if it has one, because this machine's clock may be wrong.
    day = _date(asked)
    if day is not None:
        return _bounded((day - (_date(headers.get("date", "")) or now)).total_seconds())
    limits = read_limits(headers, now)
    waits = _waits(limits) if limits else []
    if waits:
        return max(waits)
    return _seconds(headers.get("x-ratelimit-reset"), now)


def _waits(limits: RateLimits) -> list[float]:
    """Return the seconds until each used-up limit is available again.

    If the answer calls no limit used up, it is unknown which one refused the call, so the shortest reset is taken.
    """
    both = ((limits.requests_left, limits.requests_reset), (limits.tokens_left, limits.tokens_reset))
    used_up = [reset for left, reset in both if left == 0 and reset is not None]
    resets = [reset for _, reset in both if reset is not None]
    return used_up or ([min(resets)] if resets else [])


def _named(patterns: tuple[str, ...], names: tuple[str, ...]) -> list[str]:
    return [pattern.format(name) for pattern in patterns for name in names]


def _first(found: Iterable[T | None]) -> T | None:
    return next((each for each in found if each is not None), None)


def _count(text: str | None) -> int | None:
    """Return a count, or None; Azure sends -1 for an unknown one."""
    number = _number(text)
    return None if number is None or number < 0 else int(number)


def _seconds(text: str | None, now: datetime) -> float | None:
    """Return a duration from "1m30s", "250ms", a number of seconds, a point in time in seconds, or RFC 3339."""
    text = (text or "").strip()
    number = _number(text)
    if number is not None:
        if number >= _EPOCH:
            number = number / (1000 if number >= 100 * _EPOCH else 1) - now.timestamp()
        return _bounded(number)
    parts = _DURATION.fullmatch(text)
    if text and parts:
        return _bounded(sum(float(part) * unit for part, unit in zip(parts.groups(), _UNITS, strict=True) if part))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return _bounded(((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _bounded(seconds: float) -> float:
    return round(min(max(seconds, 0.0), MAX_WAIT), 6)
