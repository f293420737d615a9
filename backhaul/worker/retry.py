"""How long to wait before a record is tried again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

MAX_BACKOFF = 60.0
MAX_WAIT = 300.0
"""What a provider's Retry-After is believed at most; the next attempt asks it again."""

# The system's own: workers that were restored from one snapshot would otherwise all wait for the same time.
_random = random.SystemRandom()


def delay_before(tries: int, error: BaseException, now: datetime) -> float:
    """Return the seconds to wait after so many failed tries: 1, 2, 4 … with full jitter, or what the provider asks."""
    backoff = _random.uniform(0, min(2.0 ** (tries - 1), MAX_BACKOFF))
    try:
        asked = _asked_for(error, now)
    except Exception:  # the same
        asked = 0.0
    return max(backoff, min(asked, MAX_WAIT))


def _asked_for(error: BaseException, now: datetime) -> float:
    given: Any = getattr(error, "retry_after", None)
    if given is None:
        given = _header(error, "retry-after")
    try:
        return max(float(given), 0.0)
    except (TypeError, ValueError):
        pass
    try:
        return max((parsedate_to_datetime(given) - now).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _header(error: BaseException, name: str) -> Any:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        headers: Any = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        headers = getattr(response, "headers", None) or getattr(error, "headers", None)
    return headers.get(name) if hasattr(headers, "get") else None
