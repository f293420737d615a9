"""How often a client asks about the jobs that it follows: often at first, then less, and never in step."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 0.3
MAX_SECONDS = 3.0
GROWTH = 1.3
MAX_POLLS_PER_SECOND = 2.0
"""The most polls a second of one client, for all of the jobs that it follows together."""
MAX_SECONDS_AFTER_FAILURE = 30.0
JITTER = 0.2
"""The share by which a pause is made longer or shorter at random, so that many clients do not ask in step."""


class Poll:
    """The pauses between a client's polls of one job."""

    def __init__(self, polls: Polls) -> None:
        self._polls = polls
        self._seconds = FIRST_SECONDS
        self._after_failure = FIRST_SECONDS

    def after_answer(self) -> float:
        """Return the seconds until the next poll; the longer the client follows the job, the less often it asks."""
        seconds, self._after_failure = self._seconds, FIRST_SECONDS
        self._seconds = min(self._seconds * GROWTH, MAX_SECONDS)
        return self._polls.spaced(seconds)

    def after_failure(self, retry_after: float | None) -> float:
        """Return the seconds until the next poll of a deployment that is too busy, or does not answer."""
        self._after_failure = min(self._after_failure * 2, MAX_SECONDS_AFTER_FAILURE)
        return max(self._polls.spaced(self._after_failure), retry_after or 0.0)


class Polls:
    """The jobs that one client follows at the moment; any number of threads may use it."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._lock = threading.Lock()
        self._followed = 0

    @contextmanager
    def of_a_job(self) -> Iterator[Poll]:
        """Count one more followed job until the block ends."""
        self._count(1)
        try:
            yield Poll(self)
        finally:
            self._count(-1)

    def spaced(self, seconds: float) -> float:
        """Return the pause with jitter; it is longer if the polls of all jobs together would be too many."""
        spread = 1 + JITTER * (2 * self._chance() - 1)
        return max(seconds, (self._followed - 1) / MAX_POLLS_PER_SECOND) * spread

    def _count(self, change: int) -> None:
        with self._lock:
            self._followed += change
