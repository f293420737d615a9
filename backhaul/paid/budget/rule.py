"""What a worker may draw from a budget, and what becomes of it: values and rules, of which none looks at a clock."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from backhaul.model.job import JobRef
from backhaul.model.money import display
from backhaul.store.budgets import BudgetKey, BudgetScope, BudgetState, Entry, Limit, Posting, ProviderUsage

ALLOWANCE_SECONDS = 15.0
"""For how long an allowance is meant to last, and how old it may become: what is left of it then is given back."""
MIN_CALLS = 8
MAX_CALLS = 64
"""How many calls' estimates an allowance holds, where there is room for them."""
SHARE = 16
"""An allowance takes no more than this part of what a budget has left, but always one call."""
HELD_SECONDS = 2.0
"""When to come back at the earliest for what others hold: they settle every few seconds."""
OUTAGE_SECONDS = 4.0
"""The same for a table that does not answer."""
PAUSE_SECONDS = 2.0
"""For how long the table is not asked again, by whichever thread: each would wait for its answer in vain."""
TAKEN_OVER = "taken-over"
"""Stands for the provider of calls of which nobody knows any more what they cost."""

# The system's own: workers that were restored from one snapshot would otherwise all come back at the same time.
_random = random.SystemRandom()


@dataclass(frozen=True)
class Caps:
    """What may be spent, in nanodollars: by the job, by its tenant in a day, by the deployment in a day; None: any."""

    job: int | None = None
    tenant: int | None = None
    stack: int | None = None


@dataclass(frozen=True)
class Holder:
    """Who draws: an attempt at a shard of a job."""

    job: JobRef
    shard: int
    attempt: int


@dataclass(frozen=True)
class Hold:
    """Permission for one call at its estimate in nanodollars; settled, or given back, once."""

    number: int
    estimate: int
    day: date


@dataclass(frozen=True)
class Exhausted:
    """A cap leaves no room for the call, whatever becomes of the calls under way: the job pauses."""

    scope: BudgetScope
    cap: int
    spent: int
    asked: int

    def describe(self) -> str:
        """Return it in words: "the job's budget of $1.00 has $0.0031 left, and a call may cost $0.012"."""
        cap, left, asked = (display(amount) for amount in (self.cap, max(0, self.cap - self.spent), self.asked))
        return f"the {self.scope}'s budget of {cap} has {left} left, and a call may cost {asked}"


@dataclass(frozen=True)
class HeldByOthers:
    """What a cap leaves is held for calls under way, most of which will cost less: come back in so many seconds."""

    scope: BudgetScope
    seconds: float
    cap: int
    spent: int
    held: int
    asked: int

    def describe(self) -> str:
        """Return it in words."""
        return f"what is left of the {self.scope}'s budget of {display(self.cap)} is held for calls under way"


@dataclass(frozen=True)
class OutOfReach:
    """The budgets cannot be read or written: no call, come back in so many seconds."""

    seconds: float
    reason: str

    def describe(self) -> str:
        """Return it in words."""
        return self.reason


@dataclass(frozen=True)
class Batch:
    """What is to be written to a budget: settled calls, and what was held for nothing."""

    cost: int = 0
    estimated: int = 0
    surplus: int = 0
    usage: Mapping[str, ProviderUsage] = field(default_factory=dict)

    def __add__(self, other: Batch) -> Batch:
        usage = dict(self.usage)
        for provider, more in other.usage.items():
            usage[provider] = usage.get(provider, ProviderUsage()) + more
        return Batch(self.cost + other.cost, self.estimated + other.estimated, self.surplus + other.surplus, usage)

    @property
    def released(self) -> int:
        """What is no longer held."""
        return self.estimated + self.surplus

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self == Batch()


@dataclass(frozen=True)
class Account:
    """A budget as one holder draws from it: under which name, by default up to which cap, and its entry there."""

    key: BudgetKey
    name: str
    attempt: int
    default_cap: int | None = None
    expires_at: int | None = None
    entry: Entry | None = None
    known: BudgetState = field(default_factory=BudgetState)

    @property
    def cap(self) -> int | None:
        """The cap that counts, as far as this holder knows."""
        return self.default_cap if self.known.cap is None else self.known.cap

    def posting(self, batch: Batch, draw: int, day: date, *, last: bool = False) -> Posting:
        """Return the write that settles a batch, draws so much, and with `last` takes the holder's entry away."""
        old = self.entry or Entry(self.attempt, 0)
        held, used = draw - batch.released, draw - batch.released + batch.cost
        after = Entry(
            self.attempt,
            old.number + 1,
            old.held + held,
            old.cost + batch.cost,
            old.estimated + batch.estimated,
            day.toordinal() if self.key.scope is BudgetScope.JOB else 0,
        )
        limit = Limit(self.known.cap, None if self.cap is None else self.cap - used) if draw else None
        kept = None if last else after
        return Posting(self.key, self.name, self.entry, kept, held, used, batch.usage, limit, self.expires_at)


def room_for(account: Account, batch: Batch, estimate: int) -> int | Exhausted | HeldByOthers:
    """Return how many calls have room in a budget as it was last seen, once the batch is written; or why none has."""
    if account.cap is None:
        return MAX_CALLS * SHARE
    spent, held = account.known.spent + batch.cost, account.known.held - batch.released
    calls = (account.cap - spent - held) // max(estimate, 1)
    if calls >= 1:
        return calls
    if spent + estimate > account.cap:
        return Exhausted(account.key.scope, account.cap, spent, estimate)
    return HeldByOthers(account.key.scope, 0.0, account.cap, spent, held, estimate)


def outrun(account: Account, estimate: int) -> HeldByOthers:
    """Return what to say when there was room a moment ago, and others were quicker."""
    known = account.known
    return HeldByOthers(account.key.scope, 0.0, account.cap or known.used, known.spent, known.held, estimate)


def calls_wanted(rate: float, rooms: Iterable[int | Exhausted | HeldByOthers]) -> int:
    """Return for how many calls to draw, at so many calls a second: fewer the less room there is, and always one."""
    wanted = min(max(math.ceil(rate * ALLOWANCE_SECONDS), MIN_CALLS), MAX_CALLS)
    shares = [room // SHARE for room in rooms if isinstance(room, int)]
    return max(1, min([wanted, *shares]))


def buried(key: BudgetKey, name: str, entry: Entry, spent: int = 0, estimated: int | None = None) -> Posting:
    """Return the write that settles what a dead holder held: what its stored calls cost, the rest at its estimate.

    `spent` is what all the calls cost that it stored, and `estimated` what those had been estimated at; what of them
    it had settled itself is not settled again. Without a word of estimates each counts as what it cost.
    """
    known = max(0, spent - entry.cost)
    released = known if estimated is None else max(0, estimated - entry.estimated)
    cost = known + max(0, entry.held - released)
    usage = {TAKEN_OVER: ProviderUsage(nanodollars=cost)} if cost else {}
    return Posting(key, name, entry, None, -entry.held, cost - entry.held, usage)


def spread(seconds: float) -> float:
    """Return a time between this one and its double: waiters do not come back at once."""
    return seconds + _random.uniform(0, seconds)
