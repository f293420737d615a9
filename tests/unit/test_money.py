"""Amounts: exact in, exact through, and readable out."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backhaul.model.errors import InvalidRequest
from backhaul.model.money import DOLLAR, MOST, check, cost_of, display, dollars, nanodollars


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        ("1.00", DOLLAR),
        ("$2.50", 2_500_000_000),
        (" .5 ", 500_000_000),
        ("0.000000001", 1),
        (Decimal("0.1"), 100_000_000),
        (0.1, 100_000_000),
        (3, 3 * DOLLAR),
        ("0", 0),
        ("1000000", MOST),
        (Decimal("1E+2"), 100 * DOLLAR),
    ],
)
def test_an_amount_of_dollars_is_exact(amount, nano):
    assert nanodollars(amount) == nano


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("-1", "cannot be negative"),
        ("-$1", "cannot be negative"),
        (-0.01, "cannot be negative"),
        (Decimal("NaN"), "not an amount"),
        (Decimal("sNaN"), "not an amount"),
        (float("nan"), "not an amount"),
        (float("inf"), "not an amount"),
        ("NaN", "write it like"),
        ("1,500", "write it like"),
        ("1e3", "write it like"),
        ("\u0661", "write it like"),
        ("", "write it like"),
        ("1.", "write it like"),
        ("12 dollars", "write it like"),
        (True, "not an amount"),
        ("1000000.01", "more than $1,000,000"),
        (Decimal("1E+30"), "more than $1,000,000"),
        ("0.0000000001", "finer than a nanodollar"),
        (Decimal("999999.0000000000000000000000000000001"), "finer than a nanodollar"),
        (Decimal("1E-999999"), "finer than a nanodollar"),
    ],
)
def test_what_is_no_amount_is_refused_with_a_sentence(amount, said):
    with pytest.raises(InvalidRequest, match=said.replace("$", r"\$")):
        nanodollars(amount)


@pytest.mark.parametrize("amount", [-1, MOST + 1, True, 1.0])
def test_nanodollars_are_checked_where_they_come_in(amount):
    with pytest.raises(InvalidRequest):
        check(amount)
    assert check(MOST) == MOST


@given(st.integers(0, MOST))
def test_what_is_written_in_full_is_read_back(nano):
    assert nanodollars(f"{nano // DOLLAR}.{nano % DOLLAR:09}") == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (3_100_000, "$0.0031"),
        (12_000_000, "$0.012"),
        (12_400_000_000, "$12.40"),
        (1_234_500_000_000, "$1,234.50"),
        (-2_500_000_000, "-$2.50"),
        (100_000_000, "$0.10"),
        (99_960_000, "$0.100"),
    ],
)
def test_an_amount_is_shown_with_the_digits_that_matter(nano, text):
    assert display(nano) == text


@given(st.integers(-MOST, MOST))
def test_what_is_shown_is_within_a_tenth_and_never_nothing(nano):
    shown = Decimal(display(nano).replace("$", "").replace(",", "")) * DOLLAR
    assert abs(shown - nano) <= abs(nano) / 10
    assert (shown == 0) == (nano == 0)


@given(st.integers(0, 10**7), st.decimals(min_value=0, max_value=100_000, places=9), st.integers(1, 20))
@example(1, Decimal("0.000000001"), 3)
def test_a_cost_is_rounded_up_to_a_nanodollar_once_and_no_further(tokens, price, parts):
    exact = Fraction(price) * tokens * 1000 * parts
    assert exact <= cost_of(*[(tokens, price)] * parts) < exact + 1


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (1, "0.000000001"), (DOLLAR, "1.00"), (2_500_000_000, "2.50"), (-1_005_000_000, "-1.005")],
)
def test_an_amount_for_programs_is_exact(amount, text):
    assert dollars(amount) == text


@given(st.integers(0, MOST))
def test_an_amount_for_programs_is_read_back_as_it_was(amount):
    assert nanodollars(dollars(amount)) == amount
