"""How long things wait, and where: every constant of waiting, each with its rule.

A wait has one of three places. A short one is slept in the function. A longer one leaves the function, because nobody
is paid to sleep. One that takes more than a few seconds is parked as well, so that it can be woken (decision 15).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Where a shard waits.

MAX_SLEEP = 2.0
"""A longer wait leaves the function."""
MAX_UNWOKEN = 10
"""A longer wait is parked, so that a change of what it waits for reaches the shard within this time."""
MAX_PARKED = 366 * 86400
"""A wait without an end of its own, such as for a breaker: a job's deadline comes first."""
STAYS_AFTER = 1000
"""Attempts at a shard in one run after which a worker sleeps through waits inside the function.

An execution has room for 25,000 events, and an attempt with its wait takes up to thirteen."""
LONG_SECONDS = 60.0
"""A longer wait leaves all the same after `STAYS_AFTER`, up to `STAYS_FOR_GOOD` attempts: a worker that sleeps costs
more than the transitions."""
STAYS_FOR_GOOD = 1700
"""Attempts in one run after which no wait leaves that fits into the worker's time: the execution is nearly full."""

# For how long.

AGAIN_SECONDS = 1.0
"""After how long a call is made again that failed for the first time: most such failures are nobody's."""
AWAY_SECONDS = 5.0
"""How long a shard stays away from a provider that refuses and does not say for how long; doubled each time."""
MAX_AWAY = 300.0
"""Up to this, while the provider answers none of the shard's calls."""
MAX_BACKOFF = 60.0
"""The longest pause before a record is tried again that failed for a reason that may pass."""
MAX_ASKED = 86400.0
"""What is believed of a `Retry-After` at most. The wait can be woken, so that hours are one wait, and not many."""
OUTAGE_TRIES = 6
"""A worker that a store fails in the middle of its work comes back after as long as after the sixth try of a record."""
OVERTAKEN_SECONDS = 10
"""How long a worker stays away that another has overtaken: as long as that one takes to show that it is alive."""

# The system's own: workers that were restored from one snapshot would otherwise all wait for the same time.
_random = random.SystemRandom()


def stay_away(refusals: int) -> float:
    """Return the seconds to stay away from a provider after so many refusals in a row: 5, 10, 20 … 300."""
    return min(AWAY_SECONDS * 2.0 ** min(max(refusals - 1, 0), 30), MAX_AWAY)


def delay_before(tries: int, error: BaseException, now: datetime) -> float:
    """Return the seconds to wait after so many failed tries: 1, 2, 4 … with full jitter, or what the provider asks."""
    backoff = _random.uniform(0, min(2.0 ** (tries - 1), MAX_BACKOFF))
    try:
        asked = _asked_for(error, now)
    except Exception:  # the same
        asked = 0.0
    return max(backoff, min(asked, MAX_ASKED))


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
