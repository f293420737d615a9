"""What calls of providers cost: counted in nanodollars, and told as dollars in text, which a float would not be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field


@dataclass(frozen=True)
class ProviderUsage:
    """What calls of a provider took: tokens, and nanodollars that were paid or that a cache saved."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    nanodollars: int = 0
    saved: int = 0

    def __add__(self, other: ProviderUsage) -> ProviderUsage:
        return ProviderUsage(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ProviderCost:
    """The same as it is told: dollars such as "2.50"."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    spent: str = "0.00"
    saved: str = "0.00"


@dataclass(frozen=True)
class Cost:
    """What a job has cost in all of its runs, in dollars such as "2.50"."""

    max_cost: str | None
    """The cap that counts now; none if there is none."""
    spent: str
    held: str
    """What is reserved for calls under way: they may cost less."""
    saved: str
    usage: Mapping[str, ProviderCost] = field(default_factory=dict)
    """By provider; `taken-over` stands for calls of which nobody knows any more what they cost."""
