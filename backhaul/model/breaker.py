"""A provider's circuit breaker, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """Whether calls are made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Count:
    """Calls that were answered, or not, and how many of them failed."""

    calls: int = 0
    failed: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.calls + other.calls, self.failed + other.failed)


@dataclass(frozen=True)
class BreakerState:
    """A provider's breaker; the epoch grows with every change, and is the fencing token of every write."""

    provider: str
    epoch: int = 0
    state: Phase = Phase.CLOSED
    reason: str | None = None
    since: datetime | None = None
    next_probe_at: datetime | None = None
    """When an open breaker lets one call through; none if only a person closes it."""
    cooldown_seconds: int = 0
    """How long it is, or was last, kept open before a probe."""
    by: str | None = None
    """Who made this state by hand."""
    why: str | None = None
    owner: str | None = None
    """Who holds the probe."""
    probe_until: datetime | None = None
    """When the holder of the probe is taken for dead."""
    counts: Mapping[int, Count] = field(default_factory=dict)
    """By bucket of time, since this epoch began: reported only while calls fail."""

    @property
    def is_held_open(self) -> bool:
        """Whether somebody opened it by hand: then only a hand closes it."""
        return self.state is Phase.OPEN and self.by is not None

    def describe(self) -> str:
        """Return the state in words: "openai breaker open (failures)"."""
        said = f"{self.provider} breaker {self.state}"
        if self.is_held_open:
            return f"{said} by {self.by}: {self.why}"
        if self.state is Phase.HALF_OPEN:
            return f"{said}, a probe is under way"
        return f"{said} ({self.reason})" if self.reason else said
