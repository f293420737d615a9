"""The verdict on a run, and the receipt that lets its owner check it."""

import json
from datetime import UTC, datetime

import pytest

from backhaul.job import Cause, Job, JobRef, JobState, ObjectRef
from backhaul.reading import Chunk
from backhaul.receipt import judge, receipt_of
from backhaul.shard import FailedChunk, Part, Shard, ShardRecord

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAN = (
    Shard(0, (Chunk(0, 0, 10), Chunk(1, 10, 20))),
    Shard(1, (Chunk(2, 20, 30), Chunk(3, 30, 40))),
)
WHOLE = ShardRecord(0, attempt=1, finished=True, parts=(Part(1, 0, ((0, 5), (1, 5))),), records=4, bytes_done=20)
RAISED = Cause("processor_error", "It raised.", detail="said")
BAD = Cause("unsuitable_input", "Not text.", 35)
WORSE = Cause("unsuitable_input", "Not text.", 25)


def second(**changes) -> ShardRecord:
    return ShardRecord(1, attempt=2, **changes)


def done(*indexes: int) -> tuple[Part, ...]:
    return (Part(1, 0, tuple((index, 1) for index in indexes)),)


def test_a_run_of_which_nothing_is_missing_succeeded():
    record = second(finished=True, parts=done(2, 3), records=3, bytes_done=20, tallies={"x": 1})
    verdict = judge(PLAN, {0: WHOLE, 1: record})
    assert (verdict.state, verdict.missing, verdict.cause) == (JobState.SUCCEEDED, (), None)
    counts = verdict.counts
    assert (counts.shards, counts.chunks, counts.chunks_done, counts.chunks_failed) == (2, 4, 4, 0)
    assert (counts.records, counts.bytes_done, counts.attempts, counts.tallies) == (7, 40, 3, {"x": 1})


def test_a_shard_that_nobody_ever_claimed_is_missing_whole():
    verdict = judge(PLAN, {0: WHOLE})
    assert verdict.state is JobState.PARTIAL
    assert [(chunk.index, chunk.start, chunk.end, chunk.cause.code) for chunk in verdict.missing] == [
        (2, 20, 30, "not_processed"),
        (3, 30, 40, "not_processed"),
    ]


def test_a_run_that_committed_all_but_the_last_word_succeeded():
    assert judge(PLAN, {0: WHOLE, 1: second(parts=done(2, 3))}).state is JobState.SUCCEEDED


def test_a_failed_chunk_makes_it_partial_and_is_named():
    failed = FailedChunk(3, 30, 40, RAISED)
    verdict = judge(PLAN, {0: WHOLE, 1: second(parts=done(2), failed=(failed,))})
    assert (verdict.state, verdict.missing) == (JobState.PARTIAL, (failed,))
    assert verdict.cause.code == "chunks_missing"
    assert verdict.cause.message == "1 of 4 chunks are missing; the receipt names them. The first: It raised."
    assert verdict.cause.detail == "said"


def test_a_worker_that_died_is_the_cause_of_what_it_left():
    crash = Cause("worker_died", "It died.")
    verdict = judge(PLAN, {0: WHOLE, 1: second(parts=done(2), crash=crash)})
    assert [(chunk.index, chunk.cause) for chunk in verdict.missing] == [(3, crash)]


def test_an_input_that_cannot_be_read_fails_the_job_however_much_was():
    failed = (FailedChunk(3, 30, 40, BAD), FailedChunk(2, 20, 30, WORSE))
    verdict = judge(PLAN, {0: WHOLE, 1: second(failed=failed)})
    assert (verdict.state, verdict.cause) == (JobState.FAILED, WORSE)


def test_a_run_of_which_nothing_succeeded_failed():
    verdict = judge(PLAN, {})
    assert (verdict.state, verdict.cause.code, verdict.counts.chunks_failed) == (JobState.FAILED, "not_processed", 4)


@pytest.mark.parametrize("verdict", [judge(PLAN, {0: WHOLE}), judge(PLAN, {})])
def test_a_receipt_is_one_json_document_that_names_all_that_is_missing(verdict):
    job = Job(
        JobRef("T1", "0" * 26), JobState.MERGING, 3, "shout", {"top": 1}, "größe.txt", 40, None, NOW, NOW, None,
        started_at=NOW, input=ObjectRef("in", "v1", 40), run=1,
    )  # fmt: skip
    text = receipt_of(job, verdict, None, NOW).to_json()
    document = json.loads(text)
    assert text.endswith(b"}\n")
    assert (document["schema_version"], document["state"]) == (1, verdict.state)
    assert [chunk["index"] for chunk in document["missing"]] == [chunk.index for chunk in verdict.missing]
    assert document["input"] == {"key": "in", "version_id": "v1", "size": 40}
    assert document["counts"]["chunks_failed"] == len(document["missing"])
    assert document["file_name"] == "größe.txt"
