"""A provider's limit as values: what one write does to the one item that all workers share.

Times are whole microseconds of the shared clock. `requests` and `tokens` are theoretical arrival times (GCRA): when
the next call may start. A reservation moves them by what it costs. Neither may lag behind a call's start by more than
the burst: what one of them did not use while the other held calls back is gone. DynamoDB compares attributes but does
not calculate in conditions, so the item has both times less the burst as well, as their floors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HEAD_START = SECOND // 25
"""What the first call after a pause costs more, because the others learn of it only after a round trip to the store:
without it their calls would all be late, and so begin together."""

Name = Literal["requests", "tokens", "clock", "requests_floor", "tokens_floor"]


@dataclass(frozen=True)
class Rate:
    """What a provider allows in a minute; `burst` is what a late caller may catch up with, in microseconds.

    By default that is a tenth of a second's calls. Nothing is reserved later than `horizon` from now.
    """

    requests: int
    tokens: int | None = None
    burst: int = SECOND // 10
    horizon: int = 5 * MINUTE

    def __post_init__(self) -> None:
        if self.requests < 1 or (self.tokens is not None and self.tokens < 1) or self.burst < 0:
            raise ValueError(f"{self} allows nothing")

    def request_cost(self, calls: int) -> int:
        """Return how far so many calls move the time of the next, rounded up."""
        return -(-calls * MINUTE // self.requests)

    def token_cost(self, tokens: int) -> int:
        """Return how far so many tokens move the time of the next, rounded up; negative ones move it back."""
        return -(-tokens * MINUTE // self.tokens) if self.tokens else 0


@dataclass(frozen=True)
class LimitState:
    """The item of a provider."""

    requests: int
    tokens: int
    clock: int
    """The shared clock when the item was last written by somebody who knew it."""
    requests_floor: int
    tokens_floor: int


@dataclass(frozen=True)
class Sum:
    """What an attribute becomes: another one, or nothing, and so much."""

    base: Name | None
    value: int


@dataclass(frozen=True)
class Condition:
    """What must hold of an attribute: that it is below a number or another attribute, or that it is not."""

    name: Name
    is_below: bool
    than: int | Name


@dataclass(frozen=True)
class Update:
    """One conditional write: all of it, or nothing. Where it `creates`, there must be no item yet."""

    sums: Mapping[Name, Sum]
    conditions: tuple[Condition, ...] = ()
    creates: bool = False

    def apply(self, state: LimitState | None) -> LimitState | None:
        """Return the item as it will be, or None if a condition does not hold: what DynamoDB does, as a function."""
        if (state is None) is not self.creates:
            return None
        before: dict[str, int] = asdict(state) if state else {}
        for condition in self.conditions:
            than = condition.than if isinstance(condition.than, int) else before[condition.than]
            if (before[condition.name] < than) is not condition.is_below:
                return None
        after = {name: (before[each.base] if each.base else 0) + each.value for name, each in self.sums.items()}
        return LimitState(**(before | after))


@dataclass(frozen=True)
class UpdateResult:
    """What a store says to an update: whether it was applied, the item before it, and the store's own time.

    That time is a witness: it is of whole seconds and in microseconds, or None if the store does not tell it.
    """

    applied: bool
    before: LimitState | None
    time: int | None = None


class Updates(Protocol):
    """Where the items are."""

    def update(self, provider: str, update: Update) -> UpdateResult:
        """Apply the update if its conditions hold; raises what `is_outage` knows when the store cannot."""


@dataclass(frozen=True)
class Reservation:
    """A reservation of one call: it may start at `at`, or a moment later; then it is void.

    `tokens` is what was reserved for it. It may be stored as JSON and used by another process.
    """

    at: int
    tokens: int = 0


@dataclass(frozen=True)
class Refusal:
    """Nothing is reserved: ask again after so many seconds, which differ from caller to caller."""

    seconds: float


@dataclass(frozen=True)
class Lease:
    """A reservation of `calls` calls, which their holder hands out; it may be stored as JSON and used later."""

    requests_at: int
    tokens_at: int
    requests_step: int
    tokens_step: int
    calls: int
    tokens: int = 0
    """Reserved for each call."""

    @property
    def at(self) -> int:
        """When the next of its calls may start."""
        return max(self.requests_at, self.tokens_at)

    def later(self, by: int) -> Lease:
        """Return the lease with all its calls moved on."""
        return replace(self, requests_at=self.requests_at + by, tokens_at=self.tokens_at + by)

    def since(self, moment: int) -> Lease:
        """Return the lease without the calls that were to start before this moment; it may be left with none."""
        lease = self
        while lease.calls and lease.at < moment:
            lease = lease.rest()
        return lease

    def rest(self) -> Lease:
        """Return the lease without its next call."""
        requests_at, tokens_at = self.requests_at + self.requests_step, self.tokens_at + self.tokens_step
        return replace(self, requests_at=requests_at, tokens_at=tokens_at, calls=self.calls - 1)
