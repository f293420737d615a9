"""Money, as whole nanodollars: no sum of it is ever rounded twice."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

NANODOLLARS = 10**9
"""In a US dollar."""


def tokens_cost(tokens: int, price: Decimal) -> Fraction:
    """Return what so many tokens cost, exactly and in nanodollars, at a price in US dollars for a million of them."""
    return Fraction(price) * tokens * NANODOLLARS / 10**6


def total_cost(*costs: Fraction) -> int:
    """Return the sum in whole nanodollars; what is left of one counts as one, so that no budget is overdrawn."""
    return ceil(sum(costs, Fraction(0)))


def dollars(nanodollars: int) -> str:
    """Return an amount for people to read: exact, with two decimals at least ("0.0000125", "3.50")."""
    sign, amount = ("-" if nanodollars < 0 else ""), abs(nanodollars)
    whole, rest = divmod(amount, NANODOLLARS)
    decimals = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
