"""The driver of a limit that many workers share: one worker's knowledge of it, and its reservations."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Generator
from typing import TypeVar, cast

from backhaul.model.clock import Clock
from backhaul.model.limit import SECOND, Lease, LimitState, Rate, Refusal, Reservation, Update, UpdateResult, Updates
from backhaul.model.outage import is_outage
from backhaul.paid.limit.rule import (
    LOOK,
    MAX_CATCH_UP,
    MAX_CLOSED,
    REFUSED_SECONDS,
    SLACK,
    TRIES,
    Guess,
    ReservationRequest,
    beginning,
    calls_wanted,
    closing,
    giving_back,
    guess_of,
    joining,
    lease_of,
    owing,
    refilled_in,
    reserving,
)
from backhaul.paid.limit.shared_clock import NEAR, SKEW, SharedClock
from backhaul.providers.calls import RateLimits

T = TypeVar("T")

# The system's randomness: workers restored from one snapshot share the state of `random`, and would wait in step.
_random = random.SystemRandom()


class Limiter:
    """One provider's limit, in one worker process; its threads share it.

    `lease` is how many calls the worker makes at a time. It reserves up to so many at once, but at most two seconds
    of the limit, and they count whether or not it makes them. `near` is that of `SharedClock`, in microseconds.
    """

    def __init__(
        self, provider: str, rate: Rate, store: Updates, clock: Clock, *, lease: int = 1, near: int = NEAR
    ) -> None:
        self.provider = provider
        self.rate = rate
        self.time = SharedClock(clock, near)
        self._store = store
        self._most = lease
        self._lock = threading.Lock()
        self._queue = threading.Lock()
        self._waiting = 0
        self._known: LimitState | None = None
        self._is_missing = False
        self._guess = Guess()
        self._debt = 0
        self._end: int | None = None
        self._wait = 0
        self._away = 0
        self.lease: Lease | None = None
        """The reservations that are left to hand out; another process may take them over as JSON."""

    def ask(self, tokens: int = 0, further_calls: float = math.inf) -> Reservation | Refusal:
        """Return a reservation of one call with about so many tokens, or a `Refusal` if there is none soon.

        Refuses also when the store is out of order. `further_calls` is about how many calls the caller will make after
        this one: the worker reserves no more than those in advance.
        """
        with self._queue:
            self._waiting += 1
        try:
            with self._lock:
                return self._drive(self.asking(tokens, self._waiting, further_calls)) or self._stay_away()
        finally:
            with self._queue:
                self._waiting -= 1

    def asking(
        self, tokens: int = 0, waiting: int = 1, further_calls: float = math.inf
    ) -> Generator[Update, UpdateResult, Reservation | Refusal]:
        """Do as `ask` does, but yield each update for the store; two threads must not do so at the same time.

        `waiting` is how many threads want a call now.
        """
        if handed := self._hand_out(tokens):
            return handed
        if self.time.now() < self._away:
            return self._stay_away()
        return (yield from self._reserve(tokens, waiting, further_calls))

    def take_lease(self) -> Lease | None:
        """Return the rest of the lease for another process or a later attempt, and hand out no more of it here."""
        with self._lock:
            rest, self.lease = self.lease, None
            return rest

    def seconds_until(self, reservation: Reservation) -> float:
        """Return how many seconds the caller has to wait before the call."""
        return max(reservation.at - self.time.now(), 0) / SECOND

    def is_void(self, reservation: Reservation) -> bool:
        """Return whether the call would be too late, or is so far ahead that this worker's clock must be wrong."""
        late = self.time.now() - reservation.at
        return not -self.rate.horizon - MAX_CLOSED <= late <= self._max_late(reservation.tokens)

    def used(self, reservation: Reservation, tokens: int) -> None:
        """Record how many tokens the call used; the next reservation takes more, or less, by the difference."""
        with self._lock:
            self._debt += tokens - reservation.tokens

    def refused(self, retry_after: float | None = None) -> None:
        """Close the limit for all workers until `retry_after` seconds from now, because the provider refused a call."""
        seconds = REFUSED_SECONDS if retry_after is None else retry_after
        closed = min(max(round(seconds * SECOND), 0), MAX_CLOSED)
        self._close(closed, closed)

    def observe(self, limits: RateLimits, reservation: Reservation) -> None:
        """Close the limit for all workers until the provider has room again, by its answer to the reserved call."""
        by_requests = refilled_in(1, limits.requests_left, limits.requests_limit, limits.requests_reset)
        by_tokens = refilled_in(reservation.tokens, limits.tokens_left, limits.tokens_limit, limits.tokens_reset)
        if max(by_requests, by_tokens) > SECOND:  # providers round the reset time to a second: less says nothing
            self._close(by_requests, by_tokens)

    def settle(self) -> None:
        """Store the unsettled tokens, and give back the rest of the lease if no worker has reserved after it."""
        with self._lock:
            self._drive(self._settling())

    def _settling(self) -> Generator[Update, UpdateResult, None]:
        rest, self.lease = self.lease, None
        calls, owed = (rest.calls, self._debt - rest.calls * rest.tokens) if rest else (0, self._debt)
        is_settled = False
        if calls and self._end:
            is_settled = (yield giving_back(self.rate, calls, owed, self._end)).applied
        if not is_settled and (update := owing(self.rate, owed)):
            yield update
        self._debt, self._known, self._end = 0, None, None

    def _hand_out(self, tokens: int) -> Reservation | None:
        lease, self.lease, now = self.lease, None, self.time.now()
        if lease is None:
            return None
        # Others now use the time that belonged to the first calls of a worker that comes back late: those are void.
        lease = lease.since(now - self._max_late(lease.tokens))
        if not lease.calls:
            return None
        # A lease's holder may catch up by the burst of the whole limit and no more.
        lease = lease.later(max(now - self.rate.burst - lease.at, 0))
        self.lease = lease.rest() if lease.calls > 1 else None
        self._debt += tokens - lease.tokens
        return Reservation(max(lease.at, now), tokens)

    def _max_late(self, tokens: int) -> int:
        return max(MAX_CATCH_UP, self.rate.request_cost(1), self.rate.token_cost(tokens))

    def _reserve(
        self, tokens: int, waiting: int, further_calls: float
    ) -> Generator[Update, UpdateResult, Reservation | Refusal]:
        wanted = ReservationRequest(
            calls_wanted(self.rate, tokens, waiting, min(further_calls, self._most - waiting), self._wait),
            tokens,
            self._debt,
        )
        for _ in range(TRIES):
            full = self._full_for()
            if full > 0:
                # A caller that comes back within half the horizon finds the other half reserved: no capacity is lost.
                self._away = self.time.now() + full + round(_random.uniform(0, self.rate.horizon / 2))
                return self._stay_away()
            update = self._update_for(wanted)
            answer = yield update
            self._learn(answer)
            if after := answer.applied and update.apply(answer.before):
                return self._reserved(wanted, update, after)
        return self._stay_away()

    def _update_for(self, wanted: ReservationRequest) -> Update:
        now = self.time.now()
        if self._is_missing:
            return beginning(self.rate, wanted, now)
        if not self.time.is_known:
            return joining(self.rate, wanted, now, SKEW)
        return reserving(self.rate, wanted, now, self._guess, SLACK)

    def _learn(self, answer: UpdateResult) -> None:
        before = answer.before
        self._is_missing = before is None and not answer.applied
        self._known = before
        if before:
            # A reservation counts by the item's clock; only a refused worker may set its clock by the store's time.
            self.time.learn(before.clock, None if answer.applied else answer.time)
            self._guess = guess_of(self.rate, before, self.time.now())
        else:  # no item: if this update created it, this worker's clock has become the shared one
            self.time.check(answer.time)
            self.time.is_known = answer.applied

    def _reserved(self, wanted: ReservationRequest, update: Update, after: LimitState) -> Reservation:
        self._debt = wanted.calls * wanted.tokens + wanted.debt - wanted.charged()
        self._known, self._end = after, after.requests
        if "idle" not in {self._guess.requests, self._guess.tokens}:  # calls that come after pauses find it idle again
            self._guess = guess_of(self.rate, after, self.time.now())
        lease, now = lease_of(self.rate, wanted, update, after), self.time.now()
        self._wait = lease.at - now
        self.lease = lease.rest() if wanted.calls > 1 else None
        return Reservation(max(lease.at, now), wanted.tokens)

    def _full_for(self) -> int:
        """Return in how many microseconds a caller may reserve, by the item as last seen: its times only grow."""
        known = self._known if self.time.is_known else None
        return max(known.requests, known.tokens) - self.time.now() - self.rate.horizon if known else 0

    def _close(self, requests: int, tokens: int) -> None:
        with self._lock:
            lease, until = self.lease, self.time.now() + max(requests, tokens)
            if lease:  # its calls before then are lost: if moved, they would start together with every other lease's
                rest = lease.since(until)
                self.lease = rest if rest.calls else None
            if tokens > 0:  # the provider's numbers already count what our calls used: a credit would count twice
                self._debt = max(self._debt, 0)
            self._drive(self._closing(requests, tokens))

    def _closing(self, requests: int, tokens: int) -> Generator[Update, UpdateResult, None]:
        if not self.time.is_known:  # a worker's clock that is far off must not close the limit
            self._learn((yield LOOK))
        now = self.time.now()
        for _ in range(TRIES):
            update = closing(self.rate, now + requests, now + tokens, now, self._known)
            if update is None:
                return
            answer = yield update
            self._learn(answer)
            if answer.applied:
                self._known = update.apply(answer.before)
                return

    def _drive(self, steps: Generator[Update, UpdateResult, T]) -> T | None:
        """Carry out the yielded updates; None if the store is out of order."""
        try:
            update = next(steps)
            while True:
                update = steps.send(self._store.update(self.provider, update))
        except StopIteration as end:
            return cast(T, end.value)
        except Exception as error:
            if not is_outage(error):
                raise
            self._debt = max(self._debt, 0)  # the failed write may have been made: a credit must not be used twice
            return None

    def _stay_away(self) -> Refusal:
        return Refusal(max(self._away - self.time.now(), SECOND) / SECOND + _random.uniform(0, 2))
