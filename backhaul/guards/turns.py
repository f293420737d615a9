"""Waiting for turns under providers' limits; what one attempt at a shard has reserved it leaves to the next."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from backhaul.clock import Clock
from backhaul.flow.interrupt import wait_outside
from backhaul.guards.channels import Channel
from backhaul.guards.limits import Limiter
from backhaul.limit import Go, Lease, StayAway

SLEEP_LONGEST = 2.0
"""A longer wait leaves the function: nobody is paid to sleep."""
TURNS_MOST = 3
"""Turns that a call takes while each is over before it is awake; the last is used, late as it is."""


@dataclass(frozen=True)
class _Kept:
    """What is reserved under a provider's limit: single calls, and what is left of a lease."""

    turns: tuple[Go, ...]
    lease: Lease | None


class Turns:
    """The reservations of one attempt, from all of its threads.

    Without them a worker that leaves to wait would give its place in the queue away, and the limit would be used by
    those who stay. `left` tells how many seconds the attempt still has.
    """

    def __init__(self, clock: Clock, left: Callable[[], float]) -> None:
        self.slept = 0.0
        """Seconds for which calls waited for their turn in here, all threads together, and the longest of them."""
        self.longest_sleep = 0.0
        self._clock = clock
        self._left = left
        self._lock = threading.Lock()
        self._before: dict[str, _Kept] = {}
        self._turns: dict[str, list[Go]] = {}

    def take_up(self, kept: Mapping[str, str]) -> None:
        """Use what the attempt before this one has kept."""
        self._before = {name: msgspec.json.decode(text, type=_Kept) for name, text in kept.items()}

    def wait(self, channel: Channel, tokens: int, more: float = math.inf) -> Go | None:
        """Sleep until a call with about so many tokens may start; None if there is no limit.

        `more` is what `Limiter.ask` takes. Raises `Interrupted` for a longer wait, and keeps the turn for when we are
        back.
        """
        limiter = channel.limiter
        if limiter is None:
            return None
        for _ in range(TURNS_MOST - 1):
            turn = self._next(channel, limiter, tokens, more)
            if not limiter.is_void(turn):
                return turn  # if it is, this process stood still, and in the time that is now others call
        return self._next(channel, limiter, tokens, more)

    def _next(self, channel: Channel, limiter: Limiter, tokens: int, more: float) -> Go:
        name = channel.provider.name
        what = f"{name} has no room under its limit"
        turn = self._kept_turn(name, limiter) or limiter.ask(tokens, more)
        if isinstance(turn, StayAway):
            wait_outside(turn.seconds, what)
        seconds = limiter.seconds_until(turn)
        if seconds > SLEEP_LONGEST or seconds >= self._left():
            with self._lock:
                self._turns.setdefault(name, []).append(turn)
            # It takes a moment to come back, and the rest is slept: who comes late is late in another's time.
            wait_outside(max(math.floor(seconds - SLEEP_LONGEST / 2), 1), what)
        with self._lock:
            self.slept += seconds
            self.longest_sleep = max(self.longest_sleep, seconds)
        self._clock.sleep(seconds)
        return turn

    def _kept_turn(self, name: str, limiter: Limiter) -> Go | None:
        """Return the first turn that was kept and is not void."""
        with self._lock:
            if before := self._before.pop(name, None):
                self._turns.setdefault(name, []).extend(before.turns)
                limiter.lease = before.lease
            turns = self._turns.get(name, [])
            turns.sort(key=lambda turn: turn.at, reverse=True)
            while turns:
                turn = turns.pop()
                if not limiter.is_void(turn):
                    return turn
        return None

    def keep(self, channels: Iterable[Channel]) -> dict[str, str]:
        """Return what is reserved for calls that were not made, by provider and as JSON; nothing is taken after it."""
        leases = {each.provider.name: each.limiter.take_lease() for each in channels if each.limiter}
        with self._lock:
            kept, self._before = self._before, {}  # of those for which this attempt had no use yet
            turns, self._turns = self._turns, {}
        for name in leases.keys() | turns.keys():
            before = kept.get(name, _Kept((), None))
            kept[name] = _Kept((*before.turns, *turns.get(name, ())), before.lease or leases.get(name))
        return {name: msgspec.json.encode(each).decode() for name, each in kept.items() if each.turns or each.lease}
