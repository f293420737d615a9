"""Waiting for turns under providers' limits; an attempt at a shard hands over to the next what it has reserved."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from backhaul.model.clock import Clock
from backhaul.model.interruption import wait_outside
from backhaul.model.limit import Lease, Refusal, Reservation
from backhaul.model.versions import StoredRecord, upgraded
from backhaul.model.waits import MAX_SLEEP
from backhaul.paid.channels import Channel
from backhaul.paid.limit.limiter import Limiter

MAX_TURNS = 3
"""Turns that a call takes while each is over before it is awake; the last is used, late as it is."""


@dataclass(frozen=True)
class _HandedOver:
    """The reservations that an attempt hands over under one provider's limit: single calls, and the rest of a lease."""

    reservations: tuple[Reservation, ...]
    lease: Lease | None

    @classmethod
    def from_stored(cls, text: str) -> _HandedOver:
        return msgspec.convert(
            upgraded(StoredRecord.RESERVATIONS, msgspec.json.decode(text, type=dict[str, Any]), "a reservation"), cls
        )


class Reservations:
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
        self._handed_over: dict[str, _HandedOver] = {}
        self._reservations: dict[str, list[Reservation]] = {}

    def accept(self, handed_over: Mapping[str, str]) -> None:
        """Use the reservations that the attempt before this one has handed over."""
        self._handed_over = {name: _HandedOver.from_stored(text) for name, text in handed_over.items()}

    def wait(self, channel: Channel, tokens: int, further_calls: float = math.inf) -> Reservation | None:
        """Sleep until a call with about so many tokens may start; None if there is no limit.

        `further_calls` is what `Limiter.ask` takes. Raises `Interrupted` for a longer wait, and keeps the turn for when
        we are back.
        """
        limiter = channel.limiter
        if limiter is None:
            return None
        for _ in range(MAX_TURNS - 1):
            reservation = self._next(channel, limiter, tokens, further_calls)
            if not limiter.is_void(reservation):
                return reservation  # if it is, this process stood still, and in the time that is now others call
        return self._next(channel, limiter, tokens, further_calls)

    def _next(self, channel: Channel, limiter: Limiter, tokens: int, further_calls: float) -> Reservation:
        name = channel.provider.name
        what = f"the limit of {name} is used up for now"
        reservation = self._unused_reservation(name, limiter) or limiter.ask(tokens, further_calls)
        if isinstance(reservation, Refusal):
            wait_outside(reservation.seconds, what, name)
        seconds = limiter.seconds_until(reservation)
        if seconds > MAX_SLEEP or seconds >= self._left():
            with self._lock:
                self._reservations.setdefault(name, []).append(reservation)
            # It takes a moment to come back, and the rest is slept: who comes late is late in another's time.
            wait_outside(max(math.floor(seconds - MAX_SLEEP / 2), 1), what, name)
        with self._lock:
            self.slept += seconds
            self.longest_sleep = max(self.longest_sleep, seconds)
        self._clock.sleep(seconds)
        return reservation

    def _unused_reservation(self, name: str, limiter: Limiter) -> Reservation | None:
        """Return the earliest reservation that is neither used nor void; None if there is none."""
        with self._lock:
            if earlier := self._handed_over.pop(name, None):
                self._reservations.setdefault(name, []).extend(earlier.reservations)
                limiter.lease = earlier.lease
            reservations = self._reservations.get(name, [])
            reservations.sort(key=lambda reservation: reservation.at, reverse=True)
            while reservations:
                reservation = reservations.pop()
                if not limiter.is_void(reservation):
                    return reservation
        return None

    def hand_over(self, channels: Iterable[Channel]) -> dict[str, str]:
        """Return the reservations of calls that were not made, by provider and as JSON; none is taken after that."""
        leases = {each.provider.name: each.limiter.take_lease() for each in channels if each.limiter}
        with self._lock:
            rest, self._handed_over = self._handed_over, {}  # of providers that this attempt has not called yet
            reservations, self._reservations = self._reservations, {}
        for name in leases.keys() | reservations.keys():
            earlier = rest.get(name, _HandedOver((), None))
            unused = (*earlier.reservations, *reservations.get(name, ()))
            rest[name] = _HandedOver(unused, earlier.lease or leases.get(name))
        return {
            name: msgspec.json.encode(each).decode() for name, each in rest.items() if each.reservations or each.lease
        }
