"""Money: whole nanodollars, because the price of one token is a fraction of a cent's hundredth."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil

from backhaul.model.errors import InvalidRequest

DOLLAR = 10**9
"""Nanodollars in a dollar."""
MOST = 1_000_000 * DOLLAR
"""The largest amount that anything here takes: what is above it is a slip of the hand."""
_PER_MILLION = 10**6

_MAX_DIGITS = 40
"""More than any amount has that passes; what Decimal takes besides would be stored and shown with every digit."""
_TEXT = re.compile(r"\$?([0-9]+(?:\.[0-9]+)?|\.[0-9]+)", re.ASCII)


def nanodollars(amount: str | int | float | Decimal) -> int:
    """Return an amount of dollars in nanodollars.

    Takes "1.00", "$2.50", numbers and `Decimal`; raises `InvalidRequest` for anything negative, not a number, finer
    than a nanodollar, or above a million dollars.
    """
    value = _decimal(amount)
    if not value.is_finite():
        raise InvalidRequest(f"{str(amount)[:40]!r} is not an amount of dollars.")
    if value < 0:
        raise InvalidRequest(f"An amount of dollars cannot be negative, and {str(amount)[:40]} is.")
    if value > MOST // DOLLAR:
        raise InvalidRequest(f"{str(amount)[:40]} is more than $1,000,000, which is surely a mistake.")
    with localcontext(prec=200):  # exact for every amount that passes: the default's 28 digits would round
        scaled = value * DOLLAR
        whole = int(scaled)
        if whole != scaled or len(value.as_tuple().digits) > _MAX_DIGITS:
            raise InvalidRequest(f"{str(amount)[:40]} is finer than a nanodollar: nine decimals at most.")
    return whole


def check(amount: int, what: str = "An amount") -> int:
    """Return the nanodollars as they are; raises `InvalidRequest` unless they are from 0 to a million dollars."""
    if type(amount) is not int:  # a bool is no amount
        raise InvalidRequest(f"{what} is counted in whole nanodollars, and {amount!r} is not a whole number.")
    if amount < 0:
        raise InvalidRequest(f"{what} cannot be negative, and {display(amount)} is.")
    if amount > MOST:
        raise InvalidRequest(f"{what} of {display(amount)} is more than $1,000,000, which is surely a mistake.")
    return amount


def cost_of(*parts: tuple[int, Decimal]) -> int:
    """Return what tokens cost together, in nanodollars, each kind at its price in dollars for a million of them.

    What is left of a nanodollar counts as one, once, so that no budget is overdrawn.
    """
    return ceil(sum((Fraction(price) * tokens * DOLLAR / _PER_MILLION for tokens, price in parts), Fraction(0)))


def dollars(amount: int) -> str:
    """Return nanodollars as exact dollars for programs: "2.50", "0.0031"; two decimals at least."""
    whole, rest = divmod(abs(amount), DOLLAR)
    sign, decimals = ("-" if amount < 0 else ""), f"{rest:09d}".rstrip("0")
    return f"{sign}{whole}.{decimals:0<2}"


def display(amount: int) -> str:
    """Return nanodollars as people read them: "$12.40", and two digits that count of what is small: "$0.0031"."""
    sign, value = ("-" if amount < 0 else ""), abs(amount)
    decimals = 2
    if 0 < value < DOLLAR // 10:
        decimals = min(9, 11 - len(str(value)))
    return f"{sign}${Decimal(value) / DOLLAR:,.{decimals}f}"


def _decimal(amount: str | int | float | Decimal) -> Decimal:
    if isinstance(amount, bool):
        raise InvalidRequest(f"{amount!r} is not an amount of dollars.")
    if isinstance(amount, float):  # what was written, not its neighbour in binary
        return Decimal(repr(amount))
    if isinstance(amount, str):
        text = amount.strip()
        if text.startswith("-") and _TEXT.fullmatch(text[1:]):
            return Decimal(text.replace("$", ""))
        # No commas: "1,500" is fifteen hundred to some and one and a half to others.
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InvalidRequest(f"{amount[:40]!r} is not an amount of dollars; write it like 2.50 or $2.50.")
        return Decimal(found[1])
    return Decimal(amount)
