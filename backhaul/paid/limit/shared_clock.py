"""The clock that all workers of a limit share, as one of them knows it.

The item holds the shared clock. A worker reads the time of day once and then follows its monotonic clock, so that no
jump of the time of day reaches the limit. From every answer it learns how far it is behind the others. It can never
learn that it is ahead, because an answer holds the time at which it was made or an earlier one. So no worker gets
ahead of the clock that began, and no stretch of time is given away twice.
"""

from __future__ import annotations

from backhaul.model.clock import Clock
from backhaul.model.limit import SECOND

STRAY = 1 * SECOND
"""A worker sets its clock by the store's time if it is further than this (give or take half a second) from that."""
SKEW = 3 * SECOND
"""How far apart two workers' clocks may be after that: an item that is older than this has been idle for a while."""
NEAR = 60_000
"""A new worker trusts its own clock if it is ahead of the item's by less than this many microseconds.

The item's clock is always a little old. A larger value lets clocks that really differ push the shared clock ahead; a
smaller value makes new workers start late. Where clocks are known to be good, up to `SKEW`, a larger value is better.
"""


class SharedClock:
    """One worker's knowledge of the shared clock; `near` (microseconds) is how far ahead it may trust its own first."""

    def __init__(self, clock: Clock, near: int = NEAR) -> None:
        self._clock = clock
        self._near = near
        self._ahead = round(clock.now().timestamp() * SECOND) - round(clock.monotonic() * SECOND)
        self.is_known = False
        """Whether the worker has learned the shared clock; before that it has only its own."""

    def now(self) -> int:
        """Return the time in microseconds; never goes backward once the time is known."""
        return self._ahead + round(self._clock.monotonic() * SECOND)

    def check(self, witness: int | None) -> None:
        """Set a clock that is far off by the store's own time, `witness` (microseconds, exact to a second)."""
        off = 0 if witness is None or self.is_known else self.now() - witness - SECOND // 2
        if abs(off) > STRAY:
            self._ahead -= off

    def learn(self, shared: int, witness: int | None) -> None:
        """Learn from the item's clock `shared`, as it was at some time before now; `witness` is as for `check`."""
        ahead = self.now() - shared
        # Once known, the clock only ever moves forward: an older answer must not set it back.
        if self.is_known:
            self._ahead += max(-ahead, 0)
            return
        # A new worker takes over the item's clock, with two exceptions. Its own clock is ahead by so little that the
        # item may only be a little old; or by so much that the limit was idle, and the store's time confirms it.
        self.check(witness)
        ahead = self.now() - shared
        was_quiet = ahead > SKEW and witness is not None
        if not 0 <= ahead <= self._near and not was_quiet:
            self._ahead -= ahead
        self.is_known = True
