"""How long things wait, and where: every constant of waiting, each with its rule.

A wait has one of three places. The worker sleeps through a short one in its function. For a longer one the worker
leaves the function, because nobody is paid to sleep. A wait of more than ten seconds is parked as well, so that the
shard can be woken (decision 15).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Where a shard waits.

MAX_SLEEP = 2.0
"""The longest wait that a worker sleeps through; for a longer one it leaves the function."""
MAX_UNWOKEN = 10
"""The longest wait that nobody can end. A longer one is parked: the shard is woken when what it waits for changes."""
MAX_PARKED = 366 * 86400
"""The length of a wait that has no end of its own, such as one for a breaker. The job's deadline ends it before."""
STAYS_AFTER = 1000
"""Attempts at a shard in one run after which a worker sleeps through waits inside the function.

An execution has room for 25,000 events, and an attempt with its wait takes up to thirteen."""
LONG_SECONDS = 60.0
"""The longest wait that a worker sleeps through after `STAYS_AFTER` attempts. For a longer one it still leaves, up to
`STAYS_FOR_GOOD` attempts: to sleep so long costs more than the state machine's transitions."""
STAYS_FOR_GOOD = 1700
"""Attempts in one run after which a worker sleeps through every wait that fits into its time, because the execution has
hardly any room left."""

# For how long.

AGAIN_SECONDS = 1.0
"""After how long a worker repeats a call that failed for the first time: most such failures are nobody's fault."""
AWAY_SECONDS = 5.0
"""How long a shard stays away from a provider that refuses and does not say for how long; doubled each time."""
MAX_AWAY = 300.0
"""The longest time for which a shard so stays away; an answered call starts the doubling anew."""
MAX_BACKOFF = 60.0
"""The longest pause before a record is tried again that failed for a reason that may pass."""
MAX_ASKED = 86400.0
"""The longest `Retry-After` that a worker believes. The wait can be woken, so hours may be one wait."""
OUTAGE_TRIES = 6
"""If a store fails in the middle of an attempt, the next attempt begins after the pause that follows so many tries of a
record."""
OVERTAKEN_SECONDS = 10
"""After how long a shard is looked at again whose worker another has overtaken: the other gives a sign of life as
often."""

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
    except Exception:  # attributes of a foreign exception may be of any type, and reading them may raise
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
