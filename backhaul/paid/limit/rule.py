"""The rule of a limit: which update reserves, by what a caller knows. GCRA, but it never denies: it tells the time.

Of two times one leads: the later, at which the call starts. Each of them is `going`, and what is reserved is added to
it; or it is `left` behind the other by more than the burst, and goes on from there; or both are past, and it is `idle`.
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
"""The other time of the two, and its floor."""

SLACK = SECOND // 2
"""A worker that is further behind the shared clock than this must learn it before it writes it."""
LEASE_TIME = 2 * SECOND
"""What one lease takes of the limit at most: others wait for as long."""
MAX_CATCH_UP = SECOND // 2
"""Calls that are later than this, and than the next one's turn, are not made: others are at work in the time now."""
TRIES = 4
"""Writes for one reservation, of which the others' writes may spoil all but the last."""
REFUSED_SECONDS = 1.0
"""What a refusal without a Retry-After closes the limit for ..."""
MAX_CLOSED = 5 * MINUTE
"""... and what a Retry-After is believed at most."""


@dataclass(frozen=True)
class Wish:
    """What a caller wants to reserve."""

    calls: int
    tokens: int
    """For each call, estimated."""
    debt: int
    """Tokens that earlier calls took more, or fewer, than was reserved for them."""

    def charged(self) -> int:
        """Return the tokens that the reservation moves the time by; what is left of a credit waits for the next."""
        return max(self.calls * self.tokens + self.debt, 0)


@dataclass(frozen=True)
class Guess:
    """What each time is taken to be, because nothing is read before it is written."""

    requests: Kind = "going"
    tokens: Kind = "left"


def calls_wanted(rate: Rate, tokens: int, waiting: int, more: float, wait: int) -> int:
    """Return how many calls to reserve: one for each who waits, and `more` only if we had a queue to `wait` in.

    While that lasts, our threads come back, if they have more to do: what was reserved for them would be late if
    there were no queue, and lost if they had nothing to call for.
    """
    longest = max(rate.request_cost(1), rate.token_cost(tokens))
    coming = min(waiting + math.ceil(max(more, 0)), wait // longest)
    return max(min(max(waiting, coming), LEASE_TIME // longest), 1)


def guess_of(rate: Rate, state: LimitState, now: int) -> Guess:
    """Return what is true of the item as it was seen."""

    def kind(tat: int, other: int) -> Kind:
        if tat >= max(other, now) - rate.burst:
            return "going"
        return "left" if other >= now else "idle"

    if rate.tokens is None:
        return Guess(kind(state.requests, 0))
    return Guess(kind(state.requests, state.tokens), kind(state.tokens, state.requests))


def reserving(rate: Rate, wish: Wish, now: int, guess: Guess, slack: int) -> Update:
    """Return the update with which a caller reserves who knows the shared clock.

    After a pause longer than the burst a time begins at now, with nothing of the burst: who does not know what the
    provider saw meanwhile must not begin with a rush. An item whose clock is ahead by more than `slack` refuses,
    and tells the caller so.
    """
    sums: dict[Name, Sum] = {"clock": Sum(None, now)}
    conditions = [Condition("clock", True, now + slack)]
    for name, kind, cost in _costs(rate, wish, guess):
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


def joining(rate: Rate, wish: Wish, wall: int, skew: int) -> Update:
    """Return the update with which a caller reserves who knows its own clock only.

    It goes by the item's clock, which it leaves as it is, and does so only if that is no older than clocks are apart
    and if there is a queue by both clocks: it may then believe either of them without taking what is past.
    """
    is_for_tokens = rate.token_cost(wish.charged()) > rate.request_cost(wish.calls)
    leads: Name = "tokens" if is_for_tokens else "requests"
    guess = Guess("left", "going") if is_for_tokens else Guess("going", "left")
    sums: dict[Name, Sum] = {}
    conditions = [
        Condition("clock", False, wall - skew),
        Condition(leads, False, "clock"),
        Condition(leads, False, wall - rate.burst),
        Condition(leads, True, wall - skew + rate.horizon),
    ]
    for name, kind, cost in _costs(rate, wish, guess):
        base = name if kind == "going" else _OTHERS[name][1]
        sums |= _both(name, base, cost, rate)
        conditions += [Condition(name, True, base)] if kind == "left" else []
    return Update(sums, tuple(conditions))


def beginning(rate: Rate, wish: Wish, now: int) -> Update:
    """Return the update with which the first caller of all makes the item."""
    sums: dict[Name, Sum] = {"clock": Sum(None, now), **_both("tokens", None, 0, rate)}
    for name, _, cost in _costs(rate, wish, Guess()):
        sums |= _both(name, None, now + cost + HEAD_START, rate)
    return Update(sums, creates=True)


def lease_of(rate: Rate, wish: Wish, update: Update, after: LimitState) -> Lease:
    """Return what an update has reserved that was applied."""

    def start(name: Name, tat: int, cost: int) -> int:
        return tat - cost - (0 if update.sums[name].base else HEAD_START)

    requests_at = start("requests", after.requests, rate.request_cost(wish.calls))
    tokens_at = start("tokens", after.tokens, rate.token_cost(wish.charged())) if rate.tokens else 0
    steps = rate.request_cost(1), rate.token_cost(wish.tokens)
    return Lease(requests_at, tokens_at, *steps, wish.calls, wish.tokens)


def owing(rate: Rate, tokens: int) -> Update | None:
    """Return the update that takes more tokens, or gives some back; None if there are none."""
    cost = rate.token_cost(tokens)
    return Update(_both("tokens", "tokens", cost, rate)) if cost else None


def giving_back(rate: Rate, calls: int, tokens: int, end: int) -> Update:
    """Return the update that gives calls back if nobody has reserved after them, and does what `owing` does."""
    update = owing(rate, tokens)
    sums = {**(update.sums if update else {}), **_both("requests", "requests", -rate.request_cost(calls), rate)}
    return Update(sums, (Condition("requests", False, end), Condition("requests", True, end + 1)))


def closing(rate: Rate, requests: int, tokens: int, now: int, state: LimitState | None) -> Update | None:
    """Return the update that lets nothing be reserved before two times; None if nothing would be, or they are past.

    `state` is the item as it was seen, if there is one.
    """
    sums: dict[Name, Sum] = {}
    conditions: list[Condition] = []
    wanted: tuple[tuple[Name, int, int], ...] = (
        ("requests", requests, state.requests if state else 0),
        ("tokens", tokens if rate.tokens else 0, state.tokens if state else 0),
    )
    for name, until, tat in wanted:
        if until > max(tat, now):
            sums |= _both(name, None, until, rate)
            conditions.append(Condition(name, True, until))
    if not sums:
        return None
    if state:
        return Update(sums, tuple(conditions))
    past = _both("requests", None, 0, rate) | _both("tokens", None, 0, rate)
    return Update({**past, **sums, "clock": Sum(None, now)}, creates=True)


def refilled_in(need: int, left: int | None, most: int | None, reset: float | None) -> int:
    """Return in how many microseconds so much will be left again, by what a provider says; 0 if it is, or none knows.

    `reset` is when all will be left that may be, as the large providers mean it: what they count fills steadily. Of
    a fixed window that has nothing left it tells too little, and a call too early is refused with the right time.
    """
    if left is None or most is None or reset is None or left >= min(need, most):
        return 0
    return min(round(reset * SECOND * (min(need, most) - left) / (most - left)), MAX_CLOSED)


LOOK = Update({"clock": Sum("clock", 0)}, (Condition("clock", True, 0),))
"""Never holds: what it is answered with is the item."""


def _costs(rate: Rate, wish: Wish, guess: Guess) -> list[tuple[Name, Kind, int]]:
    """Return what each time is taken to be, and how far it is moved."""
    costs: list[tuple[Name, Kind, int]] = [("requests", guess.requests, rate.request_cost(wish.calls))]
    return [*costs, ("tokens", guess.tokens, rate.token_cost(wish.charged()))] if rate.tokens else costs


def _both(name: Name, base: Name | None, value: int, rate: Rate) -> dict[Name, Sum]:
    """Return a time and its floor."""
    floor: Name = "tokens_floor" if name == "tokens" else "requests_floor"
    return {name: Sum(base, value), floor: Sum(base, value - rate.burst)}
