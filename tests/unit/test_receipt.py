"""The verdict on a run, and the receipt that lets its owner check it."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from backhaul.model.cost import Cost, ProviderCost
from backhaul.model.job import Cause, Job, JobRef, JobState, ObjectRef, Stop, StopKind
from backhaul.model.policy import Policy
from backhaul.model.progress import FailedChunk, OpenChunk, Part, ShardRecord
from backhaul.model.receipt import judge, receipt_of
from backhaul.model.shard import Shard
from backhaul.reading import Chunk
from tests.receipts import VALIDATOR

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAN = (
    Shard(0, (Chunk(0, 0, 10), Chunk(1, 10, 20))),
    Shard(1, (Chunk(2, 20, 30), Chunk(3, 30, 40))),
)
WHOLE = ShardRecord(0, attempt=1, finished=True, parts=(Part(1, 0, ((0, 5), (1, 5))),), records=4, bytes_done=20)
RAISED = Cause("processor_error", "It raised.", detail="said")
BAD = Cause("unsuitable_input", "Not text.", 35)
WORSE = Cause("unsuitable_input", "Not text.", 25)

COST = Cost("2.50", "1.00", "0.00", "0.25", {"acme": ProviderCost(3, 40, 5, "1.00", "0.25")})

JOB = Job(
    JobRef("T1", "0" * 26), JobState.MERGING, 3, "shout", {"top": 1}, "größe.txt", 40, None, NOW, NOW, None,
    started_at=NOW, input=ObjectRef("in", "v1", 40), run=1,
)  # fmt: skip


def second(**changes) -> ShardRecord:
    return ShardRecord(1, attempt=2, **changes)


def done(*indexes: int) -> tuple[Part, ...]:
    return (Part(1, 0, tuple((index, 1) for index in indexes)),)


def test_a_run_of_which_nothing_is_missing_succeeded():
    record = second(finished=True, parts=done(2, 3), records=3, bytes_done=20, tallies={"x": 1})
    verdict = judge(JOB, PLAN, {0: WHOLE, 1: record})
    assert (verdict.state, verdict.missing, verdict.cause) == (JobState.SUCCEEDED, (), None)
    counts = verdict.counts
    assert (counts.shards, counts.chunks, counts.chunks_done, counts.chunks_failed) == (2, 4, 4, 0)
    assert (counts.records, counts.bytes_done, counts.attempts, counts.tallies) == (7, 40, 3, {"x": 1})


def test_a_shard_that_nobody_ever_claimed_is_missing_whole():
    verdict = judge(JOB, PLAN, {0: WHOLE})
    assert verdict.state is JobState.PARTIAL
    assert [(chunk.index, chunk.start, chunk.end, chunk.cause.code) for chunk in verdict.missing] == [
        (2, 20, 30, "not_processed"),
        (3, 30, 40, "not_processed"),
    ]


def test_a_run_that_committed_all_but_the_last_word_succeeded():
    assert judge(JOB, PLAN, {0: WHOLE, 1: second(parts=done(2, 3))}).state is JobState.SUCCEEDED


def test_a_failed_chunk_makes_it_partial_and_is_named():
    failed = FailedChunk(3, 30, 40, RAISED)
    verdict = judge(JOB, PLAN, {0: WHOLE, 1: second(parts=done(2), failed=(failed,))})
    assert (verdict.state, verdict.missing) == (JobState.PARTIAL, (failed,))
    assert verdict.cause.code == "chunks_missing"
    assert verdict.cause.message == "1 of 4 chunks are missing; the receipt names them. The first: It raised."
    assert verdict.cause.detail == "said"


def test_a_worker_that_died_is_the_cause_of_what_it_left():
    crash = Cause("worker_died", "It died.")
    verdict = judge(JOB, PLAN, {0: WHOLE, 1: second(parts=done(2), crash=crash)})
    assert [(chunk.index, chunk.cause) for chunk in verdict.missing] == [(3, crash)]


def test_an_input_that_cannot_be_read_fails_the_job_however_much_was():
    failed = (FailedChunk(3, 30, 40, BAD), FailedChunk(2, 20, 30, WORSE))
    verdict = judge(JOB, PLAN, {0: WHOLE, 1: second(failed=failed)})
    assert (verdict.state, verdict.cause) == (JobState.FAILED, WORSE)


def test_a_run_of_which_nothing_succeeded_failed():
    verdict = judge(JOB, PLAN, {})
    assert (verdict.state, verdict.cause.code, verdict.counts.chunks_failed) == (JobState.FAILED, "not_processed", 4)


def test_a_run_that_ended_before_it_had_a_plan_failed_and_says_so():
    verdict = judge(JOB, (), {})
    assert (verdict.state, verdict.cause.code, verdict.counts.chunks) == (JobState.FAILED, "not_planned", 0)


def stopped(kind: StopKind) -> Job:
    return replace(JOB, stop=Stop(kind, Cause(f"by_{kind}", "It was to stop."), NOW))


ALL_DONE = {0: WHOLE, 1: second(parts=done(2, 3))}


@pytest.mark.parametrize("records", [{}, {0: WHOLE}, ALL_DONE], ids=["nothing", "some", "all"])
@pytest.mark.parametrize("plan", [PLAN, ()], ids=["planned", "not planned"])
def test_a_job_that_was_cancelled_is_cancelled_whatever_was_done_by_then(records, plan):
    verdict = judge(stopped(StopKind.CANCEL), plan, records if plan else {})
    assert (verdict.state, verdict.cause.code) == (JobState.CANCELLED, "by_cancel")
    assert len(verdict.missing) == (4 - verdict.counts.chunks_done if plan else 0)


@pytest.mark.parametrize(
    ("kind", "records", "state", "code"),
    [
        (StopKind.FAIL_FAST, {0: WHOLE}, JobState.FAILED, "by_fail_fast"),
        (StopKind.DEADLINE, {0: WHOLE}, JobState.PARTIAL, "chunks_missing"),
        (StopKind.DEADLINE, {}, JobState.FAILED, "by_deadline"),
        (StopKind.LOST, {0: WHOLE}, JobState.PARTIAL, "chunks_missing"),
        (StopKind.LOST, {}, JobState.FAILED, "by_lost"),
        (StopKind.FAIL_FAST, ALL_DONE, JobState.SUCCEEDED, None),
        (StopKind.DEADLINE, ALL_DONE, JobState.SUCCEEDED, None),
        (StopKind.LOST, ALL_DONE, JobState.SUCCEEDED, None),
    ],
)
def test_a_run_that_was_to_stop_ends_by_what_is_missing_and_the_stop_is_why(kind, records, state, code):
    verdict = judge(stopped(kind), PLAN, records)
    assert (verdict.state, verdict.cause and verdict.cause.code) == (state, code)
    assert {chunk.cause.code for chunk in verdict.missing} <= {f"by_{kind}"}


def test_a_run_that_was_to_stop_before_it_had_a_plan_says_why():
    verdict = judge(stopped(StopKind.DEADLINE), (), {})
    assert (verdict.state, verdict.cause.code) == (JobState.FAILED, "by_deadline")


@pytest.mark.parametrize(
    ("tolerate", "state"), [(None, "PARTIAL"), (2, "PARTIAL"), (1, "FAILED"), ("50%", "PARTIAL"), ("49.9%", "FAILED")]
)
def test_more_than_the_policy_tolerates_fails_the_job_and_says_how_much_is_missing(tolerate, state):
    verdict = judge(replace(JOB, policy=Policy(tolerate=tolerate)), PLAN, {0: WHOLE})
    assert verdict.state == state
    assert verdict.cause.message.startswith("2 of 4 chunks are missing")
    assert verdict.cause.code == ("chunks_missing" if state == "PARTIAL" else "too_many_missing")


def test_a_chunk_that_is_done_in_part_is_missing_and_its_bytes_are_not_counted_as_done():
    record = second(parts=done(2, 3), open=OpenChunk(3, 35, 1), bytes_done=10, records=1)
    verdict = judge(JOB, PLAN, {0: WHOLE, 1: record})
    assert [chunk.index for chunk in verdict.missing] == [3]
    assert (verdict.counts.chunks_done, verdict.counts.bytes_done, verdict.counts.records) == (3, 30, 5)


@pytest.mark.parametrize("verdict", [judge(JOB, PLAN, {0: WHOLE}), judge(JOB, PLAN, {})])
def test_a_receipt_is_one_json_document_that_names_all_that_is_missing(verdict):
    text = receipt_of(JOB, verdict, None, NOW).to_json()
    document = json.loads(text)
    assert text.endswith(b"}\n")
    assert (document["schema_version"], document["state"]) == (1, verdict.state)
    assert [chunk["index"] for chunk in document["missing"]] == [chunk.index for chunk in verdict.missing]
    assert document["input"] == {"key": "in", "version_id": "v1", "size": 40}
    assert document["counts"]["chunks_failed"] == len(document["missing"])
    assert document["file_name"] == "größe.txt"


@pytest.mark.parametrize("run", [1, 2], ids=["first run", "redriven"])
@pytest.mark.parametrize("cost", [None, COST], ids=["free", "paid"])
@pytest.mark.parametrize("records", [ALL_DONE, {0: WHOLE}, {}], ids=["all", "some", "nothing"])
def test_a_receipt_has_exactly_the_fields_that_its_published_form_describes(records, cost, run):
    job = replace(JOB, run=run, ref=JobRef("T1", "0" * 26))
    verdict = judge(job, PLAN, records)
    output = None if verdict.state is JobState.FAILED else ObjectRef("out", "v1", 7)
    VALIDATOR.validate(json.loads(receipt_of(job, verdict, output, NOW, cost).to_json()))
