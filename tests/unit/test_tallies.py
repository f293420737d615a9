"""Tallies add up, and always fit."""

import pytest

from backhaul import Context
from backhaul.model.tallies import MAX_TALLIES, OTHER, sum_tallies


def test_tallies_are_summed_by_name_in_order():
    assert list(sum_tallies([{"b": 1, "a": 2}, {}, {"a": 3}]).items()) == [("a", 5), ("b", 1)]


def test_past_a_hundred_names_the_rest_count_together():
    total = sum_tallies([{f"{number:04d}": 1} for number in range(1000)])
    assert len(total) == MAX_TALLIES + 1
    assert sum(total.values()) == 1000
    assert total[OTHER] == 900
    assert sum_tallies([total, {"0000": 1, "new": 1}]) == total | {"0000": 2, OTHER: 901}


def test_a_chunk_has_room_for_a_hundred_tallies():
    ctx = Context()
    for number in range(MAX_TALLIES):
        ctx.tally(str(number))
    ctx.tally("0")
    with pytest.raises(ValueError, match="room for 100"):
        ctx.tally("one more")


@pytest.mark.parametrize(("name", "amount"), [("x" * 101, 1), ("x", 10**16), ("x", -(10**16))])
def test_a_tally_that_could_not_be_stored_is_refused(name, amount):
    with pytest.raises(ValueError, match="15 digits"):
        Context().tally(name, amount)
