"""A provider's limit as values: the one item that all workers share, and the conditional writes to it.

Times are whole microseconds of the shared clock. `requests` and `tokens` are theoretical arrival times (TAT, of the
generic cell rate algorithm, GCRA): the times at which the next call may start. A reservation moves both by its cost.
Neither time may lag behind a call's start by more than the burst: capacity that one of them did not use while the
other held calls back is lost. DynamoDB compares attributes but does not calculate in conditions. So the item also
holds each time less the burst: its floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND
HEAD_START = SECOND // 25
"""The extra cost of the first call after a pause. The other workers learn of that call one round trip to the store
later: without the extra all their calls would be late, and would start together."""

Name = Literal["requests", "tokens", "clock", "requests_floor", "tokens_floor"]


@dataclass(frozen=True)
class Rate:
    """The requests and tokens that a provider allows in a minute; raises `ValueError` for a rate that allows nothing.

    `burst`, in microseconds, is how far a late caller may catch up: by default a tenth of a second's calls.
    `horizon`, in microseconds, is how far ahead a caller may reserve.
    """

    requests: int
    tokens: int | None = None
    burst: int = SECOND // 10
    horizon: int = 5 * MINUTE

    def __post_init__(self) -> None:
        if self.requests < 1 or (self.tokens is not None and self.tokens < 1) or self.burst < 0:
            raise ValueError(f"{self} allows nothing")

    def request_cost(self, calls: int) -> int:
        """Return how far so many calls move the next call's time, in microseconds, rounded up."""
        return -(-calls * MINUTE // self.requests)

    def token_cost(self, tokens: int) -> int:
        """Return how far so many tokens move the next call's time, in microseconds, rounded up.

        A negative number of tokens moves it back.
        """
        return -(-tokens * MINUTE // self.tokens) if self.tokens else 0


@dataclass(frozen=True)
class LimitState:
    """A provider's item: both times, their floors and the shared clock, in microseconds."""

    requests: int
    tokens: int
    clock: int
    """The shared clock when a worker that knew it last wrote the item."""
    requests_floor: int
    tokens_floor: int


@dataclass(frozen=True)
class Sum:
    """The new value of an attribute: another attribute (or 0, if `base` is None) plus `value`."""

    base: Name | None
    value: int


@dataclass(frozen=True)
class Condition:
    """A condition on an attribute: that it is below a number or another attribute, or that it is not."""

    name: Name
    is_below: bool
    than: int | Name


@dataclass(frozen=True)
class Update:
    """One conditional write; if any condition fails, it writes nothing. With `creates` there must be no item yet."""

    sums: Mapping[Name, Sum]
    conditions: tuple[Condition, ...] = ()
    creates: bool = False

    def apply(self, state: LimitState | None) -> LimitState | None:
        """Return the item after the write, or None if a condition fails: a model of what DynamoDB does."""
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
    """The store's answer to an update: whether it was applied, the item before it, and the store's own time.

    `time` is in microseconds but exact to a second only; None if the store does not send it.
    """

    applied: bool
    before: LimitState | None
    time: int | None = None


class Updates(Protocol):
    """The store of the providers' items."""

    def update(self, provider: str, update: Update) -> UpdateResult:
        """Apply the update if its conditions hold; raises an error for which `is_outage` holds if the store is down."""


@dataclass(frozen=True)
class Reservation:
    """A reservation of one call, which may start at `at` or a moment later; after that the reservation is void.

    `at` is in microseconds of the shared clock. `tokens` are the tokens reserved for the call. A reservation may be
    stored as JSON and used by another process.
    """

    at: int
    tokens: int = 0


@dataclass(frozen=True)
class Refusal:
    """The answer when nothing was reserved: ask again after `seconds`, which differ from caller to caller."""

    seconds: float


@dataclass(frozen=True)
class Lease:
    """Reservations of `calls` calls, which their holder hands out; a lease may be stored as JSON and used later.

    The first call may start at the later of `requests_at` and `tokens_at`; each further call a step later.
    """

    requests_at: int
    tokens_at: int
    requests_step: int
    tokens_step: int
    calls: int
    tokens: int = 0
    """The tokens reserved for each call."""

    @property
    def at(self) -> int:
        """When the lease's next call may start."""
        return max(self.requests_at, self.tokens_at)

    def later(self, by: int) -> Lease:
        """Return the lease with all its calls later by so many microseconds."""
        return replace(self, requests_at=self.requests_at + by, tokens_at=self.tokens_at + by)

    def since(self, moment: int) -> Lease:
        """Return the lease without the calls whose start lies before this moment; it may have none left."""
        lease = self
        while lease.calls and lease.at < moment:
            lease = lease.rest()
        return lease

    def rest(self) -> Lease:
        """Return the lease without its next call."""
        requests_at, tokens_at = self.requests_at + self.requests_step, self.tokens_at + self.tokens_step
        return replace(self, requests_at=requests_at, tokens_at=tokens_at, calls=self.calls - 1)
