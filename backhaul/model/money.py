"""Money in whole nanodollars: one token costs less than a hundredth of a cent, so cents would be too coarse."""

from __future__ import annotations

import re
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil

from backhaul.model.errors import InvalidRequest

DOLLAR = 10**9
"""Nanodollars in a dollar."""
MOST = 1_000_000 * DOLLAR
"""The largest amount that is accepted, in nanodollars: a larger one is surely a typing mistake."""
_PER_MILLION = 10**6

_MAX_DIGITS = 40
"""More digits than any valid amount needs. Decimal takes thousands, and all of them would be stored and shown."""
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
    """Return the amount unchanged; raises `InvalidRequest` unless it is an int from 0 to a million dollars.

    `amount` is in nanodollars; `what` names it in the error.
    """
    if type(amount) is not int:  # a bool is no amount
        raise InvalidRequest(f"{what} is counted in whole nanodollars, and {amount!r} is not a whole number.")
    if amount < 0:
        raise InvalidRequest(f"{what} cannot be negative, and {display(amount)} is.")
    if amount > MOST:
        raise InvalidRequest(f"{what} of {display(amount)} is more than $1,000,000, which is surely a mistake.")
    return amount


def cost_of(*parts: tuple[int, Decimal]) -> int:
    """Return the cost of tokens in nanodollars; each part is (tokens, price in dollars for a million of them).

    The sum is rounded up once, to a whole nanodollar, so that no budget is overdrawn.
    """
    return ceil(sum((Fraction(price) * tokens * DOLLAR / _PER_MILLION for tokens, price in parts), Fraction(0)))


def dollars(amount: int) -> str:
    """Return nanodollars as exact dollars for programs: "2.50", "0.0031"; two decimals at least."""
    whole, rest = divmod(abs(amount), DOLLAR)
    sign, decimals = ("-" if amount < 0 else ""), f"{rest:09d}".rstrip("0")
    return f"{sign}{whole}.{decimals:0<2}"


def display(amount: int) -> str:
    """Return nanodollars for people: "$12.40"; an amount below ten cents with two significant digits: "$0.0031"."""
    sign, value = ("-" if amount < 0 else ""), abs(amount)
    decimals = 2
    if 0 < value < DOLLAR // 10:
        decimals = min(9, 11 - len(str(value)))
    return f"{sign}${Decimal(value) / DOLLAR:,.{decimals}f}"


def _decimal(amount: str | int | float | Decimal) -> Decimal:
    if isinstance(amount, bool):
        raise InvalidRequest(f"{amount!r} is not an amount of dollars.")
    if isinstance(amount, float):  # repr is the number as written; Decimal(0.1) would be its neighbour in binary
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
