"""What is committed of a shard: what is done, what counts, who died, and how it adds up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backhaul.model.job import Cause, Counts
from backhaul.model.progress import (
    DROPPED,
    STALLED_AFTER,
    FailedChunk,
    OpenChunk,
    Part,
    ShardRecord,
    Suspect,
    Try,
    count,
    dropping,
    pieces_of,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FAILED = FailedChunk(4, 40, 50, Cause("processor_error", "It raised."))
PARTS = (Part(1, 0, ((1, 5), (2, 0))), Part(2, 1, ((3, 7),)))


def test_a_record_knows_what_is_settled():
    record = ShardRecord(0, parts=PARTS, failed=(FAILED,))
    assert record.done() == {1, 2, 3}
    assert record.settled() == {1, 2, 3, 4}
    assert record.chunks_done == 3
    assert ShardRecord(0).settled() == frozenset()


def test_a_chunk_that_is_open_is_not_done_though_something_of_it_is_committed():
    record = ShardRecord(0, parts=PARTS, open=OpenChunk(3, 35))
    assert record.done() == record.settled() == {1, 2}
    assert replace(record, open=OpenChunk(9, 90)).done() == {1, 2, 3}, "nothing of it is committed yet"


def test_only_what_counts_is_read_for_the_output_and_from_where_it_lies():
    parts = (Part(1, 0, ((1, 5), (DROPPED, 3), (2, 0), (3, 4))), Part(2, 1, ((3, 7), (5, 2))))
    record = ShardRecord(0, parts=parts, open=OpenChunk(5, 55))
    assert list(pieces_of(record)) == [(1, parts[0], 0, 5), (2, parts[0], 8, 0), (3, parts[0], 8, 4),
                                       (3, parts[1], 0, 7)]  # fmt: skip
    assert [part.size for part in parts] == [12, 9]


def test_what_is_dropped_counts_no_more_and_moves_nothing_else():
    parts = (Part(1, 0, ((1, 5), (2, 6))), Part(1, 1, ((2, 1), (3, 2))))
    left = dropping(parts, 2)
    assert [part.lengths for part in left] == [((1, 5), (DROPPED, 6)), ((DROPPED, 1), (3, 2))]
    assert [part.size for part in left] == [part.size for part in parts]
    record = ShardRecord(0, parts=left)
    assert record.done() == {1, 3}
    assert [(index, start) for index, _, start, _ in pieces_of(record)] == [(1, 0), (3, 1)]
    assert dropping(left, 2) == left


# Deaths


@pytest.mark.parametrize(
    ("attempt", "handed_over", "died"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (2, 1, False), (3, 1, True), (3, 2, False), (5, 4, False)],
)
def test_an_attempt_knows_whether_the_one_before_it_died(attempt, handed_over, died):
    assert ShardRecord(0, attempt=attempt, handed_over=handed_over).died() is died


def test_a_new_run_tries_again_what_failed_and_keeps_what_was_done():
    record = ShardRecord(
        0, attempt=4, run=1, previous_run=1, finished=True, parts=PARTS, failed=(FAILED,), records=9,
        suspect=Suspect(4, 40, (Try(3, NOW, "transient", "busy"),)), crash=Cause("worker_died", "It died."),
        open=OpenChunk(5, 55, 2), handed_over=1, retries=2, rework=3,
    )  # fmt: skip
    again = record.reopened(2)
    assert (again.run, again.finished, again.suspect, again.crash) == (2, False, None, None)
    assert again.failed == (FAILED,), "its cause is told until it is tried again"
    assert FAILED.index not in again.settled()
    assert (again.parts, again.open, again.records, again.retries, again.rework) == (PARTS, record.open, 9, 2, 3)
    assert not again.died(), "what became of another run's worker is no concern of this one"
    assert record.reopened(1) == record


def test_a_new_runs_own_worker_that_died_before_it_wrote_anything_is_a_death():
    record = ShardRecord(0, attempt=5, run=1, previous_run=2, handed_over=3)
    assert record.reopened(2).died()


# Signs of life


HELD = ShardRecord(0, attempt=2, handed_over=1, beat_at=NOW)


@pytest.mark.parametrize(
    ("record", "is_held"),
    [
        (HELD, True),
        (replace(HELD, attempt=0, handed_over=0), False),
        (replace(HELD, beat_at=None), False),
        (replace(HELD, finished=True), False),
        (replace(HELD, handed_over=2), False),
        (replace(HELD, crash=Cause("worker_died", "It died.")), False),
    ],
    ids=["held", "never claimed", "never alive", "finished", "handed over", "given up"],
)
def test_a_shard_stalls_when_its_worker_gives_no_sign_of_life_for_thirty_seconds(record, is_held):
    assert not record.is_stalled(NOW + STALLED_AFTER)
    assert record.is_stalled(NOW + STALLED_AFTER + timedelta(seconds=1)) is is_held


# Counts


def test_counts_are_the_sums_over_the_shards():
    records = [
        ShardRecord(0, attempt=2, parts=PARTS, records=9, bytes_done=30, tallies={"x": 1}, retries=1, rework=2),
        ShardRecord(1, attempt=1, open=OpenChunk(7, 75, 3, {"x": 5}), tallies={"x": 2, "y": 1}, failed=(FAILED,)),
    ]
    assert count(records, shards=3, chunks=9, chunks_failed=1) == Counts(
        shards=3, chunks=9, chunks_done=3, chunks_failed=1, records=9, bytes_done=30, attempts=3, retries=1, rework=2,
        tallies={"x": 3, "y": 1},
    )  # fmt: skip
    assert count([], shards=0, chunks=0, chunks_failed=0) == Counts()
