"""Shards: how chunks become shards, shards become lines, and lines become shards again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.model.shard import (
    MAX_CHUNKS,
    MIB,
    Shard,
    check_chunks,
    choose_chunk_bytes,
    plan_shards,
)
from backhaul.reading import Chunk


def chunks(sizes: list[int], quoted: frozenset[int] = frozenset()) -> list[Chunk]:
    found, start = [], 0
    for index, size in enumerate(sizes):
        found.append(Chunk(index, start, start + size, quoted=index in quoted))
        start += size
    return found


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200), st.sets(st.integers(0, 199)))
def test_a_plan_read_back_is_the_plan_that_was_written(sizes, quoted):
    planned = list(plan_shards(chunks(sizes, frozenset(quoted))))
    lines = [shard.to_line() for shard in planned]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    assert [Shard.from_value(msgspec.json.decode(line)) for line in lines] == planned
    assert [chunk for shard in planned for chunk in shard.chunks] == chunks(sizes, frozenset(quoted))


@pytest.mark.parametrize(
    ("count", "shards"),
    [(1, 1), (2, 2), (16, 16), (17, 9), (64, 16), (1024, 16), (1025, 17), (MAX_CHUNKS, 1563)],
)
def test_a_job_has_about_16_shards_until_they_would_hold_more_than_64_chunks(count, shards):
    planned = list(plan_shards(chunks([1] * count)))
    assert len(planned) == shards
    assert [shard.index for shard in planned] == list(range(shards))
    assert max(len(shard.chunks) for shard in planned) <= 64
    assert min(len(shard.chunks) for shard in planned) >= 1


def test_a_line_of_the_plan_is_far_from_what_a_state_may_carry():
    (line,) = [Shard(1562, tuple(chunks([8 * MIB] * 64, frozenset(range(64))))).to_line()]
    assert len(line) < 2000


@pytest.mark.parametrize(
    ("size", "chunk_bytes"),
    [(1, MIB // 4), (16 * MIB, MIB // 4), (64 * MIB, MIB), (512 * MIB, 8 * MIB), (5 * 1024 * MIB, 8 * MIB)],
)
def test_chunks_grow_with_the_file_between_a_quarter_and_eight_mebibytes(size, chunk_bytes):
    assert choose_chunk_bytes(size) == chunk_bytes


@pytest.mark.parametrize(
    "value", [None, {}, [], {"shard": 0}, {"shard": "0", "first_chunk": 0, "bounds": [], "quoted": []}]
)
def test_what_is_no_line_of_a_plan_is_refused(value):
    with pytest.raises(msgspec.ValidationError):
        Shard.from_value(value)


def test_what_a_run_leaves_out_is_told_in_its_line():
    shard = Shard(3, tuple(chunks([10, 10, 10])), skip=frozenset({2, 0}))
    assert Shard.from_value(msgspec.json.decode(shard.to_line())) == shard
    assert Shard.from_value({"shard": 0, "first_chunk": 0, "bounds": [0, 5], "quoted": []}).skip == frozenset()


@pytest.mark.parametrize(
    ("borders", "told"),
    [
        ([], "0 chunks"),
        ([(0, 0, 5)], "ends at byte 5 of 10"),
        ([(0, 0, 11)], "ends at byte 11 of 10"),
        ([(0, 1, 10)], "must begin at 0"),
        ([(0, 0, 4), (1, 5, 10)], "must begin at 4"),
        ([(0, 0, 6), (1, 5, 10)], "must begin at 6"),
        ([(0, 0, 5), (1, 5, 5), (2, 5, 10)], "at least a byte"),
        ([(0, 0, 5), (0, 5, 10)], "count from 0"),
        ([(1, 0, 10)], "count from 0"),
    ],
)
def test_a_split_that_does_not_cover_the_file_exactly_is_named(borders, told):
    assert told in check_chunks([Chunk(*border) for border in borders], 10)


def test_a_split_that_covers_the_file_exactly_is_fine():
    assert check_chunks([Chunk(0, 0, 4), Chunk(1, 4, 10)], 10) is None
