"""What a worker may draw from a budget, and how it is settled: values and pure rules, none of which reads a clock."""

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
"""How long an allowance should last, and how old it may become; after that the worker gives the rest back.

An allowance is money for several calls that a worker draws from a ledger with one write."""
MIN_CALLS = 8
MAX_CALLS = 64
"""How many calls an allowance covers (from `MIN_CALLS` to this), if the budget has room for them."""
SHARE = 16
"""An allowance takes at most one part in so many of a budget's rest, but always enough for one call."""
HELD_SECONDS = 2.0
"""The shortest wait for money that other workers hold: they settle every few seconds."""
OUTAGE_SECONDS = 4.0
"""The shortest wait for a table that does not answer."""
PAUSE_SECONDS = 2.0
"""How long no thread asks a table again that did not answer: each would wait in vain."""
TAKEN_OVER = "taken-over"
"""The provider's name for the calls of dead workers, whose cost is not known."""

# The system's randomness: workers restored from one snapshot share the state of `random`, and would return in step.
_random = random.SystemRandom()


@dataclass(frozen=True)
class Caps:
    """The caps of a job, of its tenant's day and of the deployment's day, in nanodollars; None: no cap."""

    job: int | None = None
    tenant: int | None = None
    stack: int | None = None


@dataclass(frozen=True)
class Holder:
    """The holder of money: an attempt at a shard of a job."""

    job: JobRef
    shard: int
    attempt: int


@dataclass(frozen=True)
class Hold:
    """Money set apart for one call, in nanodollars; the worker settles it or gives it back, once."""

    number: int
    estimate: int
    day: date


@dataclass(frozen=True)
class Exhausted:
    """The refusal if a cap has no room for the call, even if all calls under way cost nothing: the job pauses."""

    scope: BudgetScope
    cap: int
    spent: int
    asked: int

    def describe(self) -> str:
        """Return the refusal in words: "the job's budget of $1.00 has $0.0031 left, and a call may cost $0.012"."""
        cap, left, asked = (display(amount) for amount in (self.cap, max(0, self.cap - self.spent), self.asked))
        return f"the {self.scope}'s budget of {cap} has {left} left, and a call may cost {asked}"


@dataclass(frozen=True)
class HeldByOthers:
    """The refusal if calls under way hold the rest of a cap: ask again after `seconds`, as most will cost less."""

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
    """The refusal if the budgets cannot be read or written: ask again after `seconds`."""

    seconds: float
    reason: str

    def describe(self) -> str:
        """Return it in words."""
        return self.reason


@dataclass(frozen=True)
class Batch:
    """The amounts that the next write settles: calls with their cost and estimate, and `surplus`, held for no call."""

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
        """The nanodollars that this batch releases from the holds."""
        return self.estimated + self.surplus

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return self == Batch()


@dataclass(frozen=True)
class Account:
    """A budget as one holder draws from it: the holder's name and entry in it, and the cap that counts by default."""

    key: BudgetKey
    name: str
    attempt: int
    default_cap: int | None = None
    expires_at: int | None = None
    entry: Entry | None = None
    known: BudgetState = field(default_factory=BudgetState)

    @property
    def cap(self) -> int | None:
        """The cap in force, as far as this holder knows; None if there is none."""
        return self.default_cap if self.known.cap is None else self.known.cap

    def posting(self, batch: Batch, amount: int, day: date, *, last: bool = False) -> Posting:
        """Return the write that settles a batch and draws `amount` nanodollars; with `last` it removes the entry."""
        old = self.entry or Entry(self.attempt, 0)
        held, used = amount - batch.released, amount - batch.released + batch.cost
        after = Entry(
            self.attempt,
            old.number + 1,
            old.held + held,
            old.cost + batch.cost,
            old.estimated + batch.estimated,
            day.toordinal() if self.key.scope is BudgetScope.JOB else 0,
        )
        limit = Limit(self.known.cap, None if self.cap is None else self.cap - used) if amount else None
        kept = None if last else after
        return Posting(self.key, self.name, self.entry, kept, held, used, batch.usage, limit, self.expires_at)


def room_for(account: Account, batch: Batch, estimate: int) -> int | Exhausted | HeldByOthers:
    """Return how many calls of this estimate the budget has room for once the batch is written, or why for none.

    The budget counts as it was last seen.
    """
    if account.cap is None:
        return MAX_CALLS * SHARE
    spent, held = account.known.spent + batch.cost, account.known.held - batch.released
    calls = (account.cap - spent - held) // max(estimate, 1)
    if calls >= 1:
        return calls
    # What is spent never comes back, so the job has to pause. What is held may, so a caller may wait for it.
    if spent + estimate > account.cap:
        return Exhausted(account.key.scope, account.cap, spent, estimate)
    return HeldByOthers(account.key.scope, 0.0, account.cap, spent, held, estimate)


def lost_race(account: Account, estimate: int) -> HeldByOthers:
    """Return the refusal of a hold that lost a race: the budget had room when it was last seen."""
    known = account.known
    return HeldByOthers(account.key.scope, 0.0, account.cap or known.used, known.spent, known.held, estimate)


def calls_wanted(rate: float, rooms: Iterable[int | Exhausted | HeldByOthers]) -> int:
    """Return for how many calls to draw at `rate` calls a second: fewer if a budget has little room, at least one."""
    wanted = min(max(math.ceil(rate * ALLOWANCE_SECONDS), MIN_CALLS), MAX_CALLS)
    shares = [room // SHARE for room in rooms if isinstance(room, int)]
    return max(1, min([wanted, *shares]))


def takeover_posting(key: BudgetKey, name: str, entry: Entry, spent: int = 0, estimated: int | None = None) -> Posting:
    """Return the write that takes over a dead holder's entry and settles it.

    Its stored calls are settled at their cost, and the rest at the estimate.

    `spent` is the cost of all calls whose answers it stored, `estimated` the sum of their estimates, in nanodollars;
    None counts each estimate as equal to its cost. What the holder had settled itself is not settled again.
    """
    known = max(0, spent - entry.cost)
    released = known if estimated is None else max(0, estimated - entry.estimated)
    cost = known + max(0, entry.held - released)
    usage = {TAKEN_OVER: ProviderUsage(nanodollars=cost)} if cost else {}
    return Posting(key, name, entry, None, -entry.held, cost - entry.held, usage)


def spread(seconds: float) -> float:
    """Return a time with jitter, between `seconds` and its double, so that waiters do not come back in step."""
    return seconds + _random.uniform(0, seconds)
