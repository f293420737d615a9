"""The rule of a limit: which update reserves calls, given what the caller knows of the item.

It is GCRA (see `backhaul.model.limit`), except that it does not deny a call that comes too soon, but tells when the
call may start.

The item's two times are GCRA's theoretical arrival times, `arrival` for short. The call starts at the later one. Each
is in one of three states:

    going   within the burst of the other time and of now: the cost is added to it
    left    behind the other time by more than the burst: it continues from the other time less the burst
    idle    both times are past: it begins anew at now
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from backhaul.model.limit import HEAD_START, MINUTE, SECOND, Condition, Lease, LimitState, Name, Rate, Sum, Update

Kind = Literal["going", "left", "idle"]
_OTHERS: dict[Name, tuple[Name, Name]] = {
    "requests": ("tokens", "tokens_floor"),
    "tokens": ("requests", "requests_floor"),
}
"""For each of the two times: the other one, and that one's floor."""

SLACK = SECOND // 2
"""A worker that is further behind the shared clock than this must learn the clock before it writes it."""
LEASE_TIME = 2 * SECOND
"""The most time of the limit that one lease may take: other workers wait for as long."""
MAX_CATCH_UP = SECOND // 2
"""A call that is later than this, and later than the next call's start, is not made: others now use its time."""
TRIES = 4
"""Writes for one reservation; other workers' writes may make all but the last fail."""
REFUSED_SECONDS = 1.0
"""How long the limit is closed after a refusal (429) without a Retry-After."""
MAX_CLOSED = 5 * MINUTE
"""The longest time, in microseconds, for which a Retry-After or a reset time closes the limit."""


@dataclass(frozen=True)
class ReservationRequest:
    """The calls and tokens that a caller wants to reserve."""

    calls: int
    tokens: int
    """The estimated tokens of each call."""
    debt: int
    """The tokens that earlier calls used beyond their reservations; negative if they used fewer."""

    def charged(self) -> int:
        """Return the tokens by which the reservation moves the time; the rest of a credit is kept for the next."""
        return max(self.calls * self.tokens + self.debt, 0)


@dataclass(frozen=True)
class Guess:
    """The state in which the caller believes each time: it writes without reading first.

    A wrong guess fails the write's conditions, and the answer shows the item as it is.
    """

    requests: Kind = "going"
    tokens: Kind = "left"


def calls_wanted(rate: Rate, tokens: int, waiting: int, further_calls: float, wait: int) -> int:
    """Return how many calls to reserve: one for each waiting thread, and in a queue some of the `further_calls` too.

    `wait`, in microseconds, is how long this worker last had to wait in that queue. During such a wait its threads
    finish their calls and ask again. Without a queue their calls would start too late; without further work their
    reservations would be lost.
    """
    longest = max(rate.request_cost(1), rate.token_cost(tokens))
    coming = min(waiting + math.ceil(max(further_calls, 0)), wait // longest)
    return max(min(max(waiting, coming), LEASE_TIME // longest), 1)


def guess_of(rate: Rate, state: LimitState, now: int) -> Guess:
    """Return the state of both times of the item as it was last seen."""

    def kind(arrival: int, other: int) -> Kind:
        if arrival >= max(other, now) - rate.burst:
            return "going"
        return "left" if other >= now else "idle"

    if rate.tokens is None:
        return Guess(kind(state.requests, 0))
    return Guess(kind(state.requests, state.tokens), kind(state.tokens, state.requests))


def reserving(rate: Rate, wanted: ReservationRequest, now: int, guess: Guess, slack: int) -> Update:
    """Return the update that reserves for a caller that knows the shared clock.

    After a pause longer than the burst a time begins at now, without the burst: the caller does not know which calls
    the provider saw meanwhile, so it must not begin with a rush. If the item's clock is ahead by more than `slack`,
    the update fails, and its answer tells the caller the clock.
    """
    sums: dict[Name, Sum] = {"clock": Sum(None, now)}
    conditions = [Condition("clock", True, now + slack)]
    for name, kind, cost in _costs(rate, wanted, guess):
        other, others_floor = _OTHERS[name]
        if kind == "going":
            sums |= _both(name, name, cost, rate)
            conditions += [Condition(name, False, now - rate.burst), Condition(name, True, now + rate.horizon)]
            conditions += [Condition(name, False, others_floor)] if rate.tokens else []
        elif kind == "left":
            sums |= _both(name, others_floor, cost, rate)
            conditions += [Condition(name, True, others_floor), Condition(other, False, now)]
        else:
            sums |= _both(name, None, now + cost + HEAD_START, rate)
            conditions.append(Condition(name, True, now - rate.burst))
            conditions += [Condition(other, True, now)] if rate.tokens else []
    return Update(sums, tuple(conditions))


def joining(rate: Rate, wanted: ReservationRequest, wall: int, skew: int) -> Update:
    """Return the update that reserves for a caller that knows only its own clock.

    The update uses the item's clock and leaves it unchanged. Its conditions demand that this clock is not behind the
    caller's by more than `skew`, and that there is a queue by both clocks. Then it does not matter which clock is
    right: the reservation lies in the past by neither.
    """
    is_for_tokens = rate.token_cost(wanted.charged()) > rate.request_cost(wanted.calls)
    leads: Name = "tokens" if is_for_tokens else "requests"
    guess = Guess("left", "going") if is_for_tokens else Guess("going", "left")
    sums: dict[Name, Sum] = {}
    conditions = [
        Condition("clock", False, wall - skew),
        Condition(leads, False, "clock"),
        Condition(leads, False, wall - rate.burst),
        Condition(leads, True, wall - skew + rate.horizon),
    ]
    for name, kind, cost in _costs(rate, wanted, guess):
        base = name if kind == "going" else _OTHERS[name][1]
        sums |= _both(name, base, cost, rate)
        conditions += [Condition(name, True, base)] if kind == "left" else []
    return Update(sums, tuple(conditions))


def beginning(rate: Rate, wanted: ReservationRequest, now: int) -> Update:
    """Return the update with which a provider's first caller creates the item."""
    sums: dict[Name, Sum] = {"clock": Sum(None, now), **_both("tokens", None, 0, rate)}
    for name, _, cost in _costs(rate, wanted, Guess()):
        sums |= _both(name, None, now + cost + HEAD_START, rate)
    return Update(sums, creates=True)


def lease_of(rate: Rate, wanted: ReservationRequest, update: Update, after: LimitState) -> Lease:
    """Return the lease that an applied update has reserved."""

    def start(name: Name, arrival: int, cost: int) -> int:
        return arrival - cost - (0 if update.sums[name].base else HEAD_START)

    requests_at = start("requests", after.requests, rate.request_cost(wanted.calls))
    tokens_at = start("tokens", after.tokens, rate.token_cost(wanted.charged())) if rate.tokens else 0
    steps = rate.request_cost(1), rate.token_cost(wanted.tokens)
    return Lease(requests_at, tokens_at, *steps, wanted.calls, wanted.tokens)


def owing(rate: Rate, tokens: int) -> Update | None:
    """Return the update that takes further tokens, or gives some back if negative; None if that changes nothing."""
    cost = rate.token_cost(tokens)
    return Update(_both("tokens", "tokens", cost, rate)) if cost else None


def giving_back(rate: Rate, calls: int, tokens: int, end: int) -> Update:
    """Return the update that gives calls back and does what `owing` does.

    It fails if the item's time is no longer `end`, because another worker has reserved since: that worker's calls start
    after these, so moving the time back would give its time away twice.
    """
    update = owing(rate, tokens)
    sums = {**(update.sums if update else {}), **_both("requests", "requests", -rate.request_cost(calls), rate)}
    return Update(sums, (Condition("requests", False, end), Condition("requests", True, end + 1)))


def closing(rate: Rate, requests: int, tokens: int, now: int, state: LimitState | None) -> Update | None:
    """Return the update after which no call can be reserved to start before `requests` and `tokens`.

    None if both are past, or if nothing could be reserved before them anyway. `state` is the item as it was last seen,
    if there is one.
    """
    sums: dict[Name, Sum] = {}
    conditions: list[Condition] = []
    closings: tuple[tuple[Name, int, int], ...] = (
        ("requests", requests, state.requests if state else 0),
        ("tokens", tokens if rate.tokens else 0, state.tokens if state else 0),
    )
    for name, until, arrival in closings:
        if until > max(arrival, now):
            sums |= _both(name, None, until, rate)
            conditions.append(Condition(name, True, until))
    if not sums:
        return None
    if state:
        return Update(sums, tuple(conditions))
    past = _both("requests", None, 0, rate) | _both("tokens", None, 0, rate)
    return Update({**past, **sums, "clock": Sum(None, now)}, creates=True)


def refilled_in(need: int, left: int | None, most: int | None, reset: float | None) -> int:
    """Return in how many microseconds the provider will have `need` left again; 0 if it has, or did not say.

    `left`, `most` and `reset` are the provider's own numbers. `reset`, in seconds, is when everything is available
    again. The large providers refill steadily, so a part is available sooner. With a fixed window the result is too
    short; then the provider refuses the call and sends the right time.
    """
    if left is None or most is None or reset is None or left >= min(need, most):
        return 0
    return min(round(reset * SECOND * (min(need, most) - left) / (most - left)), MAX_CLOSED)


LOOK = Update({"clock": Sum("clock", 0)}, (Condition("clock", True, 0),))
"""An update whose condition never holds: its answer holds the item as it is."""


def _costs(rate: Rate, wanted: ReservationRequest, guess: Guess) -> list[tuple[Name, Kind, int]]:
    """Return (time, its guessed state, how far the reservation moves it) for each time that the rate limits."""
    costs: list[tuple[Name, Kind, int]] = [("requests", guess.requests, rate.request_cost(wanted.calls))]
    return [*costs, ("tokens", guess.tokens, rate.token_cost(wanted.charged()))] if rate.tokens else costs


def _both(name: Name, base: Name | None, value: int, rate: Rate) -> dict[Name, Sum]:
    """Return the sums that set a time and its floor."""
    floor: Name = "tokens_floor" if name == "tokens" else "requests_floor"
    return {name: Sum(base, value), floor: Sum(base, value - rate.burst)}
