"""The cost of calls of providers: counted in whole nanodollars, and shown as dollars in text.

A float could not hold every amount exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field


@dataclass(frozen=True)
class ProviderUsage:
    """The tokens that calls of a provider used, the nanodollars paid for them, and those that a cache saved."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nanodollars: int = 0
    saved: int = 0

    def __add__(self, other: ProviderUsage) -> ProviderUsage:
        return ProviderUsage(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ProviderCost:
    """A `ProviderUsage` as users see it: dollars such as "2.50"."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: str = "0.00"
    saved: str = "0.00"


@dataclass(frozen=True)
class Cost:
    """The cost of a job over all of its runs, in dollars such as "2.50"."""

    max_cost: str | None
    """The cap in force; None if the job has no cap."""
    spent: str
    held: str
    """The money held for calls under way; they may cost less."""
    saved: str
    usage: Mapping[str, ProviderCost] = field(default_factory=dict)
    """The usage by provider; `taken-over` stands for the calls of dead workers, whose cost is not known."""
