"""A provider's circuit breaker, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """The three states of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Count:
    """Calls that were made, how many of them failed, and how many others the provider refused as too many (429)."""

    calls: int = 0
    failed: int = 0
    refused: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.calls + other.calls, self.failed + other.failed, self.refused + other.refused)

    @property
    def unanswered(self) -> int:
        """How many calls got no answer."""
        return self.failed + self.refused


@dataclass(frozen=True)
class BreakerState:
    """A provider's breaker; the epoch grows with every change of state, and is the fencing token of every write."""

    provider: str
    epoch: int = 0
    state: Phase = Phase.CLOSED
    reason: str | None = None
    since: datetime | None = None
    next_probe_at: datetime | None = None
    """When an open breaker lets one call through; None if only a person closes it."""
    cooldown_seconds: int = 0
    """How long the breaker stays open before a probe, or did when it was last open."""
    by: str | None = None
    """The ARN of the person who opened or closed the breaker by hand; None if a worker did."""
    why: str | None = None
    owner: str | None = None
    """A random name of the thread that holds the probe."""
    probe_until: datetime | None = None
    """When workers take the holder of the probe for dead."""
    counts: Mapping[int, Count] = field(default_factory=dict)
    """The calls since this epoch began, by bucket of time; workers report them only while calls get no answer."""

    @property
    def is_held_open(self) -> bool:
        """Whether a person opened the breaker; then only a person closes it."""
        return self.state is Phase.OPEN and self.by is not None

    def describe(self) -> str:
        """Return the state in words: "openai breaker open (failures)"."""
        said = f"{self.provider} breaker {self.state}"
        if self.is_held_open:
            return f"{said} by {self.by}: {self.why}"
        if self.state is Phase.HALF_OPEN:
            return f"{said}, a probe is under way"
        return f"{said} ({self.reason})" if self.reason else said
