"""The clock that all workers of a limit share, as one of them knows it.

The shared clock is that of the item. A worker reads the time of day once and goes on by its monotonic clock, so that
no jump of the time of day reaches the limit. By every answer it learns how far it is behind the others, and never
that it is ahead: an answer tells the time at which it was made, or earlier. So nobody gets ahead of the clock that
began, and no stretch of time is given away twice.
"""

from __future__ import annotations

from backhaul.model.clock import Clock
from backhaul.model.limit import SECOND

STRAY = 1 * SECOND
"""A clock that is further than this from the store's own time (give or take half a second) is set by that."""
SKEW = 3 * SECOND
"""How far two clocks may then be apart: an item that is older than this has not been written for a while."""
NEAR = 60_000
"""A newcomer's clock that is ahead of the item's by less than this is believed: the item has its age, too.

More lets clocks that are really apart drive the shared one, less lets newcomers begin late. Where clocks are known
to be good (or `SKEW` is not too much to believe), more is better."""


class SharedClock:
    """What a worker knows of the shared clock; `near` is how far ahead of that its own is believed at first."""

    def __init__(self, clock: Clock, near: int = NEAR) -> None:
        self._clock = clock
        self._near = near
        self._ahead = round(clock.now().timestamp() * SECOND) - round(clock.monotonic() * SECOND)
        self.is_known = False
        """Whether it is more than the worker's own clock."""

    def now(self) -> int:
        """Return the time in microseconds; never goes backward once the time is known."""
        return self._ahead + round(self._clock.monotonic() * SECOND)

    def check(self, witness: int | None) -> None:
        """Set a clock that is absurd by the store's own."""
        off = 0 if witness is None or self.is_known else self.now() - witness - SECOND // 2
        if abs(off) > STRAY:
            self._ahead -= off

    def learn(self, shared: int, witness: int | None) -> None:
        """Take in the item's clock as it was at some time before now."""
        ahead = self.now() - shared
        if self.is_known:
            self._ahead += max(-ahead, 0)
            return
        self.check(witness)
        ahead = self.now() - shared
        was_quiet = ahead > SKEW and witness is not None
        if not 0 <= ahead <= self._near and not was_quiet:
            self._ahead -= ahead
        self.is_known = True
