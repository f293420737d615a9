"""The driver of a circuit breaker: it gives a worker permission for calls and reports their results to the others."""

from __future__ import annotations

import math
import random
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from backhaul.model.breaker import BreakerState, Count, Phase
from backhaul.model.clock import Clock
from backhaul.model.errors import StoreUnavailable
from backhaul.model.transience import is_transient
from backhaul.model.waits import MAX_PARKED
from backhaul.paid.breaker.rule import (
    REFUSALS,
    BreakerRule,
    CallReport,
    CallResult,
    OpenBreaker,
    Permit,
    Probe,
    after_call,
    bucket_of,
    closed,
    count_of,
    half_opened,
    opened,
    reason_to_open,
    recent,
    seconds_to_probe,
)
from backhaul.store.breakers import BreakerStore

PACE_SECONDS = 1.0
"""A worker reads a breaker at most once in this time, and writes it at most once."""
OLD_SECONDS = 2.0
"""A worker whose knowledge is older than this, because it made no calls, waits until it has read the breaker."""
KNOWN_SECONDS = 10.0
"""How long a worker still believes a breaker to be closed that it cannot read."""
PROBED_SECONDS = 5.0
"""When to ask again while another worker probes: a probe takes one call, unless its holder has died."""
_TRIES = 5
T = TypeVar("T")

# The system's randomness: workers restored from one snapshot share the state of `random`, and would return in step.
_random = random.SystemRandom()


def spread(seconds: float) -> float:
    """Return a time with jitter: longer by up to the half, or up to a second if that is more."""
    return seconds + _random.uniform(0, max(1.0, seconds / 2))


class Breaker:
    """One worker's view of a provider's breaker, for all of its threads; `on_change` gets each change that it makes."""

    def __init__(
        self,
        provider: str,
        rule: BreakerRule,
        store: BreakerStore,
        clock: Clock,
        on_change: Callable[[BreakerState], object] = lambda _: None,
    ) -> None:
        self._rule = rule
        self._store = store
        self._clock = clock
        self._on_change = on_change
        self.state = BreakerState(provider)
        """The breaker as this worker last saw it."""
        self._tally: dict[int, Count] = {}
        self._counting: tuple[dict[int, Count], str] | None = None
        self._pending_change: tuple[BreakerState, BreakerState, str] | None = None
        """A change that is not written yet: the state before and after it, and the token of its write."""
        self._lock = threading.Lock()
        self._talking = threading.Lock()
        self._own_epoch = -1
        """The epoch that this attempt has begun last; -1 if it has begun none."""
        self._read_at = self._wrote_at = self._known_at = self._seen_at = -math.inf
        self._asked_until = -math.inf
        """Until when, in monotonic seconds, the provider asked this worker not to call it, in this epoch."""

    def may_call(self) -> Permit | Probe | OpenBreaker:
        """Return whether the caller may make a call now; with a `Permit` or a `Probe` it must `report` the result."""
        self._talk(self._sync)
        with self._lock:
            state, ticks = self.state, self._clock.monotonic()
            known, seen = ticks - self._known_at, ticks - self._seen_at
        if state.state is Phase.CLOSED:
            # A breaker that nobody can read may have opened meanwhile, so "closed" is believed for a short time only.
            if known <= KNOWN_SECONDS:
                return Permit(state.epoch)
            return OpenBreaker(spread(PACE_SECONDS), f"the breaker of {state.provider} cannot be read", state.epoch)
        now = self._clock.now()
        left = seconds_to_probe(state, self._rule, now, seen)
        if left > 0:
            soon = left if state.state is Phase.OPEN else min(left, PROBED_SECONDS)
            return OpenBreaker(spread(soon), state.describe(), state.epoch)
        refusal = OpenBreaker(spread(PACE_SECONDS), state.describe(), state.epoch)
        return self._talk(lambda: self._take_probe(state)) or refusal

    def begin_attempt(self) -> None:
        """Begin an attempt at a shard; if the breaker is open now, another attempt opened it and will probe it."""
        self._own_epoch = -1

    def seconds_away(self, seconds: float) -> float:
        """Return for how many seconds a shard that leaves now stays away; `seconds` if the breaker is closed.

        Only the shard whose worker opened the breaker comes back by itself, to probe. `wake` wakes the others when the
        breaker closes. If the probe is overdue, the sweep wakes one of them to make it.
        """
        with self._lock:
            state, seen = self.state, self._clock.monotonic() - self._seen_at
            is_ours = state.epoch == self._own_epoch
        if state.state is Phase.CLOSED:
            return seconds
        if not is_ours:
            return MAX_PARKED
        return max(seconds, seconds_to_probe(state, self._rule, self._clock.now(), seen))

    def report(self, outcome: CallReport) -> None:
        """Record the result of a call; it has no effect if the breaker has changed since the call was permitted."""
        permit, result, now = outcome.permit, outcome.result, self._clock.now()
        with self._lock:
            # The result of a call that began in an earlier state says nothing of the present one: a slow failure from
            # before the breaker closed must not open it again.
            if permit.epoch != self.state.epoch:
                return
            self._asked_until = max(self._asked_until, self._clock.monotonic() + outcome.asked)
            after = after_call(self.state, outcome, self._rule, now)
            # A denial or a probe's result changes the breaker at once. Other results are only counted, and written
            # later for several calls together. A call that was not made says nothing of the provider.
            if after:
                self._pending_change = self._pending_change or (self.state, after, secrets.token_hex(8))
            elif result is not CallResult.NOT_MADE:
                bucket = bucket_of(now, self._rule)
                self._tally[bucket] = self._tally.get(bucket, Count()) + count_of(result)
        self._talk(self._write_pending_change if after else self._sync, wait=after is not None)

    def flush(self) -> None:
        """Write the pending counts or change now, because the worker leaves."""
        self._wrote_at = -math.inf
        self._talk(self._sync, wait=True)

    def open(self, reason: str, *, by: str | None = None, why: str | None = None) -> BreakerState | None:
        """Open the breaker at once, and with `by` until a person closes it; return the new state, None if unchanged."""
        for _ in range(_TRIES):
            state, now = self._store.get(self.state.provider, consistent=True), self._clock.now()
            if state.is_held_open or (state.state is Phase.OPEN and not by):
                return None
            after = opened(state, self._rule, now, reason)
            if self._move(state, replace(after, by=by, why=why, next_probe_at=None) if by else after):
                return self.state
        raise StoreUnavailable(f"The breaker of {state.provider} was changed by others at every try. Try again.")

    def close(self, *, by: str, why: str) -> BreakerState | None:
        """Close the breaker by hand, also one that a person opened; return the new state, None if unchanged."""
        for _ in range(_TRIES):
            state = self._store.get(self.state.provider, consistent=True)
            if state.state is Phase.CLOSED:
                return None
            if self._move(state, replace(closed(state, self._clock.now(), "by hand"), by=by, why=why)):
                return self.state
        raise StoreUnavailable(f"The breaker of {state.provider} was changed by others at every try. Try again.")

    def _talk(self, say: Callable[[], T], *, wait: bool = False) -> T | None:
        """Let one thread at a time talk to the store; the others go on with the known state, unless that is old."""
        is_old = self._clock.monotonic() - self._known_at > OLD_SECONDS
        if not self._talking.acquire(blocking=wait or is_old):
            return None
        try:
            return say()
        except Exception as error:
            if not is_transient(error):
                raise
            return None
        finally:
            self._talking.release()

    def _sync(self) -> None:
        """Read the breaker, and write pending counts or a change, where each is due."""
        ticks = self._clock.monotonic()
        if ticks - self._read_at >= PACE_SECONDS:
            try:
                self._learn(ticks, self._store.get(self.state.provider))
            finally:
                self._read_at = self._clock.monotonic()  # a thread that waited for this read does not repeat it
        if not self._is_time_to_write():
            return
        if self._pending_change:
            self._write_pending_change()
        elif self.state.state is Phase.CLOSED:
            now = self._clock.now()
            if reason := reason_to_open(self.state, self._rule, now):
                asked = self._asked_until - self._clock.monotonic() if reason == REFUSALS else 0.0
                self._move(self.state, opened(self.state, self._rule, now, reason, asked))
            else:
                self._count(now)

    def _is_time_to_write(self) -> bool:
        return self._clock.monotonic() - self._wrote_at >= PACE_SECONDS

    def _count(self, now: datetime) -> None:
        known = recent(self.state, self._rule, now)
        with self._lock:
            own = recent(replace(self.state, counts=self._tally), self._rule, now)
            is_telling = _is_telling(known, own)
            if self._counting is None and own and is_telling:
                self._counting, self._tally = (own, secrets.token_hex(8)), {}
            elif not is_telling:
                self._tally = own
            counting = self._counting
        if counting:
            self._wrote_at = self._clock.monotonic()
            counts, token = counting
            stale = self.state.counts.keys() - known.keys()
            self._learn(self._wrote_at, self._store.count(self.state, counts, token, stale=stale), sure=True)
            self._counting = None

    def _take_probe(self, state: BreakerState) -> Probe | None:
        if self.state.epoch != state.epoch or not self._is_time_to_write():
            return None
        owner = secrets.token_hex(8)
        if not self._move(state, half_opened(state, self._rule, self._clock.now(), owner), owner):
            return None
        return Probe(self.state.epoch, self._rule.probe_seconds)

    def _write_pending_change(self) -> None:
        """Write the change that follows from a call; a write that failed is repeated, and its token keeps it single."""
        if self._pending_change:
            self._move(*self._pending_change)
            self._pending_change = None

    def _move(self, before: BreakerState, after: BreakerState, token: str | None = None) -> bool:
        asked = self._wrote_at = self._clock.monotonic()
        made = self._store.move(before, after, token or secrets.token_hex(8))
        if made is None:
            return False
        self._learn(asked, made, sure=True)
        self._own_epoch = made.epoch  # if it is open now
        self._on_change(made)
        return True

    def _learn(self, asked: float, state: BreakerState, *, sure: bool = False) -> None:
        """Take over the breaker's state as of `asked`, the time of the request: a slow answer may be old by now.

        A read that is not `sure` (eventually consistent) may return an older epoch than the known one; it is ignored.
        """
        with self._lock:
            self._known_at = max(self._known_at, asked)
            if state.epoch < self.state.epoch and not sure:
                return
            if state.epoch != self.state.epoch or self._seen_at == -math.inf:
                self._seen_at = self._clock.monotonic()
                self._tally, self._counting, self._asked_until = {}, None, -math.inf
            self.state = state


def _is_telling(known: Mapping[int, Count], own: Mapping[int, Count]) -> bool:
    """Return whether a worker has to report its `own` counts, given the counts that workers have reported (`known`).

    It has to if one of its calls failed, if the provider answered none of its calls, or if another worker has reported
    calls without an answer. Otherwise it keeps its counts, so that a healthy provider costs no writes.
    """
    total = sum(own.values(), Count())
    is_shut_out = 0 < total.calls == total.unanswered
    return total.failed > 0 or is_shut_out or any(count.unanswered for count in known.values())
