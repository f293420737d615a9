"""A job's policy: what may be asked for, and how much may be missing."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.model.policy import DEFAULT, Policy
from backhaul.model.policy_fields import FIELDS
from tests import policy_table

RANGED = [each for each in FIELDS if each.least is not None]


def read(**fields) -> Policy:
    return msgspec.convert(fields, Policy)


def test_every_field_has_a_default_and_the_default_policy_is_an_empty_document():
    assert read() == DEFAULT == Policy()
    assert msgspec.json.encode(DEFAULT) == b"{}"


def test_every_field_says_what_it_is_and_how_it_is_written_and_numbers_their_range():
    assert [each.name for each in FIELDS] == list(Policy.__struct_fields__)
    for each in FIELDS:
        assert re.fullmatch(r"[A-Z].*\.", each.description)
        assert (each.least is not None) == (type(each.default) is int)


def test_the_documented_table_is_made_of_the_fields():
    assert policy_table.documented() == policy_table.table(), "python -m tests.policy_table writes it anew"


def test_the_ends_of_a_range_are_taken():
    for each in RANGED:
        for value in (each.least, each.most):
            assert getattr(read(**{each.name: value}), each.name) == value


def test_a_policy_comes_back_as_it_went_out():
    policy = Policy(tolerate="2.5%", fail_fast=True, max_tries=1, record_seconds=600, deadline_seconds=60, priority=9)
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Policy) == policy
    assert msgspec.convert(msgspec.to_builtins(policy), Policy) == policy


@pytest.mark.parametrize(
    "wrong",
    [
        *({each.name: each.least - 1} for each in RANGED),
        *({each.name: each.most + 1} for each in RANGED),
        *({each.name: str(each.default)} for each in RANGED),
        {"fail_fast": "yes"},
        {"fail_fast": 1},
        {"tolerate": -1},
        {"tolerate": 0.5},
        {"tolerate": "5"},
        {"tolerate": "5 %"},
        {"tolerate": "-5%"},
        {"tolerate": "101%"},
        {"tolerate": "100.1%"},
        {"tolerate": "0.0001%"},
        {"tolerate": "5%\n"},
        {"tolerate": "\u0665%"},
        {"tolerate": "%"},
        {"tolerate": "5%5%"},
        {"tolerate": True},
        {"retries": 3},
    ],
    ids=repr,
)
def test_what_is_out_of_range_or_unknown_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        read(**wrong)


@pytest.mark.parametrize(
    ("tolerate", "missing", "chunks", "is_tolerated"),
    [
        (None, 0, 1, True),
        (None, 10**6, 10**6, True),
        (0, 0, 5, True),
        (0, 1, 5, False),
        (2, 2, 5, True),
        (2, 3, 5, False),
        ("0%", 0, 5, True),
        ("0%", 1, 10**6, False),
        ("5%", 1, 20, True),
        ("5%", 2, 20, False),
        ("33.333%", 1, 3, False),  # a third is more
        ("33.334%", 1, 3, True),
        ("0.001%", 1, 100_000, True),
        ("0.001%", 2, 100_000, False),
        ("100%", 5, 5, True),
    ],
)
def test_a_policy_tolerates_so_many_chunks_or_such_a_share_of_them(tolerate, missing, chunks, is_tolerated):
    assert read(tolerate=tolerate).tolerates(missing, chunks) is is_tolerated


@given(st.integers(0, 99_999), st.integers(1, 100_000), st.integers(0, 100_000))
def test_a_share_is_reckoned_to_the_chunk_whatever_the_numbers(thousandths, chunks, missing):
    policy = read(tolerate=f"{thousandths // 1000}.{thousandths % 1000:03d}%")
    assert policy.tolerates(missing, chunks) == (missing * 100_000 <= thousandths * chunks)
