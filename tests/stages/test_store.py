"""The store's promises: legal moves only, one ending, lost answers recognised, outputs of any size."""

import io
import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backhaul.model.errors import InvalidSettings, JobNotFound, RunNotFound, StoreRefused, StoreUnavailable, Superseded
from backhaul.model.job import MOVES, Cause, Job, JobRef, JobState, ObjectRef, Stop, StopKind
from backhaul.model.progress import FailedChunk, OpenChunk, Part, Suspect, Try
from backhaul.model.settings import Settings
from backhaul.model.shard import Shard
from backhaul.reading import Chunk
from backhaul.store import OutputWriter, Store
from backhaul.store import output as output_rules
from backhaul.store.body import ResumingBody
from backhaul.store.job_index import QueueEntry

DATA = b"one line\n"
MIB = 1024**2
WAY = {
    JobState.AWAITING_UPLOAD: (),
    JobState.QUEUED: (JobState.QUEUED,),
    JobState.RUNNING: (JobState.QUEUED, JobState.RUNNING),
    JobState.MERGING: (JobState.QUEUED, JobState.RUNNING, JobState.MERGING),
}


def a_job_in(deployment: Any, state: JobState) -> Job:
    job: Job = deployment.submit("text-stats", DATA).job
    before = next(each for each in WAY if each is state or (state in MOVES[each] and state.is_terminal))
    for step in (*WAY[before], *((state,) if state.is_terminal else ())):
        ordered = {"run": job.run + 1} if step is JobState.QUEUED else {}
        due_at = None if step.is_terminal else deployment.clock.now()
        job = deployment.store.jobs.move(job, step, due_at=due_at, **ordered)
        assert job.state is step
    return job


# --- moves


@pytest.mark.parametrize("state", JobState)
def test_every_move_that_the_table_does_not_allow_is_refused(deployment, state):
    before = a_job_in(deployment, state)
    for target in set(JobState) - MOVES[state] - {JobState.AWAITING_UPLOAD}:  # there jobs begin
        for move in (deployment.store.jobs.move, deployment.store.jobs.move_from):
            assert move(before, target, due_at=deployment.clock.now(), run=99) == before
    assert deployment.job(before.ref) == before


def test_a_terminal_job_is_due_no_more(deployment):
    for state in JobState:
        job = a_job_in(deployment, state)
        assert (job.due_at is None, job.ended_at is not None) == (state.is_terminal, state.is_terminal)
    deployment.clock.advance(days=1)
    due = [job.state for state in JobState for job in deployment.store.jobs.due(state, 10)]
    assert due == [state for state in JobState if not state.is_terminal]


def test_of_many_that_end_a_job_at_once_one_wins_and_all_hear_the_same(deployment):
    merging = a_job_in(deployment, JobState.MERGING)
    endings = [JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED] * 2
    barrier = threading.Barrier(len(endings))

    def end(number: int) -> Any:
        barrier.wait()
        return deployment.store.jobs.move(merging, endings[number], cause=Cause("by", str(number)))

    with ThreadPoolExecutor(len(endings)) as pool:
        heard = list(pool.map(end, range(len(endings))))
    assert all(job == heard[0] for job in heard)
    assert heard[0].moves == 4
    assert endings[int(heard[0].cause.message)] is heard[0].state


def test_a_move_whose_answer_was_lost_is_recognised_when_it_is_repeated(deployment):
    running = a_job_in(deployment, JobState.RUNNING)
    move = deployment.store.jobs.move
    first = move(running, JobState.MERGING, due_at=deployment.clock.now())
    assert move(running, JobState.MERGING, due_at=deployment.clock.now()) == first
    ended = move(first, JobState.SUCCEEDED, output=ObjectRef("k", "v", 1))
    assert move(first, JobState.SUCCEEDED, output=ObjectRef("k", "v", 2)) == ended


def test_the_client_itself_repeats_a_write_whose_answer_was_lost(deployment, monkeypatch):
    """F16: the write was applied, its answer is an error; botocore repeats it, and the stage hears the truth."""
    queued = a_job_in(deployment, JobState.QUEUED)
    client = deployment.store.jobs._client
    lost = iter([True])

    answered = client._endpoint._get_response

    def lose_the_first(request, operation_model, context):
        answer, error = answered(request, operation_model, context)
        if next(lost, False):
            http, parsed = answer
            http.status_code = parsed["ResponseMetadata"]["HTTPStatusCode"] = 500
            parsed["Error"] = {"Code": "InternalServerError", "Message": "the answer was lost"}
        return answer, error

    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr(client._endpoint, "_get_response", lose_the_first)
    job = deployment.store.jobs.move(queued, JobState.RUNNING, due_at=deployment.clock.now())
    assert (job.state, job.run, job.moves) == (JobState.RUNNING, 1, 2)
    assert next(lost, "used") == "used"


def test_a_missing_job_is_not_found_by_any_call(deployment):
    nobody = JobRef("T1", "0" * 26)
    jobs = deployment.store.jobs
    with pytest.raises(JobNotFound):
        jobs.get(nobody)
    with pytest.raises(JobNotFound):
        jobs.get(nobody, consistent=False)
    gone = replace(a_job_in(deployment, JobState.RUNNING), ref=nobody)
    stop = Stop(StopKind.CANCEL, Cause("cancelled", "No more."), deployment.clock.now())
    for write in (
        lambda: jobs.move(gone, JobState.MERGING),
        lambda: jobs.move_from(gone, JobState.MERGING),
        lambda: jobs.end(gone, JobState.SUCCEEDED),
        lambda: jobs.reopen(replace(gone, state=JobState.FAILED)),
        lambda: jobs.request_stop(gone, stop),
        lambda: jobs.note(gone, run=2),
    ):
        with pytest.raises(JobNotFound):
            write()


def test_a_note_on_a_job_that_moved_on_changes_nothing(deployment):
    running = a_job_in(deployment, JobState.RUNNING)
    ended = deployment.store.jobs.move(running, JobState.FAILED)
    assert deployment.store.jobs.note(running, due_at=deployment.clock.now()) == ended
    assert deployment.job(running.ref).due_at is None


def a_stop(deployment: Any, kind: StopKind = StopKind.CANCEL) -> Stop:
    return Stop(kind, Cause("cancelled", "No more."), deployment.clock.now())


def redriven(deployment: Any, job: Job) -> Job:
    again: Job = deployment.store.jobs.reopen(job, due_at=deployment.clock.now(), queue="queued", turn="4#1#x")
    assert (again.state, again.run) == (JobState.QUEUED, job.run + 1)
    return again


@pytest.mark.parametrize("state", [JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED])
def test_who_has_read_an_open_job_never_reopens_one_that_has_ended(deployment, state):
    ended = a_job_in(deployment, state)
    jobs = deployment.store.jobs
    for seen in (JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.RUNNING, JobState.MERGING):
        for target in JobState.QUEUED, JobState.RUNNING, JobState.MERGING:
            assert jobs.move(replace(ended, state=seen), target, due_at=deployment.clock.now(), run=99) == ended
            assert jobs.move_from(replace(ended, state=seen), target, due_at=deployment.clock.now(), run=99) == ended


def test_a_word_of_an_earlier_run_moves_nothing_of_the_next(deployment):
    failed = a_job_in(deployment, JobState.FAILED)
    stale = replace(failed, state=JobState.RUNNING)
    jobs, now = deployment.store.jobs, redriven(deployment, failed)
    for state in (JobState.RUNNING, JobState.MERGING):
        now = jobs.move(now, state, due_at=deployment.clock.now())
        assert jobs.move(stale, JobState.FAILED) == now
        assert jobs.move(stale, JobState.MERGING, due_at=deployment.clock.now()) == now
        assert jobs.end(stale, JobState.FAILED) == now
        assert jobs.request_stop(stale, a_stop(deployment)) == now
        assert jobs.note(replace(stale, state=now.state), due_at=deployment.clock.now()) == now
    assert deployment.job(failed.ref) == now


def test_a_move_from_a_state_is_made_only_from_that_state(deployment):
    queued = a_job_in(deployment, JobState.QUEUED)
    running = deployment.store.jobs.move(queued, JobState.RUNNING, due_at=deployment.clock.now())
    assert deployment.store.jobs.move_from(queued, JobState.FAILED) == running
    assert deployment.store.jobs.move_from(running, JobState.FAILED).state is JobState.FAILED


def test_a_job_that_was_asked_to_stop_is_not_ended_by_who_does_not_know(deployment):
    unaware = a_job_in(deployment, JobState.MERGING)
    stopped = deployment.store.jobs.request_stop(unaware, a_stop(deployment))
    assert stopped.stop == a_stop(deployment)
    assert deployment.store.jobs.end(unaware, JobState.SUCCEEDED) == stopped
    assert deployment.store.jobs.end(stopped, JobState.CANCELLED).state is JobState.CANCELLED


def test_the_first_request_to_stop_stays(deployment):
    running = a_job_in(deployment, JobState.RUNNING)
    first = deployment.store.jobs.request_stop(running, a_stop(deployment))
    assert deployment.store.jobs.request_stop(running, a_stop(deployment, StopKind.DEADLINE)) == first
    assert first.moves == running.moves


@pytest.mark.parametrize("state", [state for state in JobState if state not in (JobState.RUNNING, JobState.MERGING)])
def test_a_job_that_does_not_run_cannot_be_asked_to_stop(deployment, state):
    job = a_job_in(deployment, state)
    assert deployment.store.jobs.request_stop(job, a_stop(deployment)) == job


@pytest.mark.parametrize("state", [JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED])
def test_a_job_that_is_reopened_begins_anew_and_keeps_its_input_and_plan(deployment, state):
    merging = a_job_in(deployment, JobState.MERGING)
    merging = deployment.store.jobs.note(merging, plan=ObjectRef("p", "v", 1), input=ObjectRef("i", "v", 1))
    merging = deployment.store.jobs.request_stop(merging, a_stop(deployment))
    kept = {"output": ObjectRef("o", "v", 1), "receipt": ObjectRef("r", "v", 1), "cause": Cause("c", "It did.")}
    again = redriven(deployment, deployment.store.jobs.end(merging, state, **kept))
    assert (again.output, again.receipt, again.cause, again.stop) == (None, None, None, None)
    assert (again.started_at, again.ended_at, again.deadline_at) == (None, None, None)
    assert (again.input, again.plan) == (merging.input, merging.plan)
    assert [job.ref for job in deployment.store.jobs.due(JobState.QUEUED, 10)] == [again.ref]
    assert list(deployment.store.jobs.queued()) == [QueueEntry(again.ref, "4#1#x")]


@pytest.mark.parametrize(
    "state", [JobState.QUEUED, JobState.RUNNING, JobState.MERGING, JobState.SUCCEEDED, JobState.EXPIRED]
)
def test_a_job_that_has_nothing_to_be_redriven_is_never_reopened(deployment, state):
    job = a_job_in(deployment, state)
    assert deployment.store.jobs.reopen(job, due_at=deployment.clock.now()) is None
    assert deployment.job(job.ref) == job


def test_of_many_that_reopen_a_job_at_once_one_orders_a_run(deployment):
    failed = a_job_in(deployment, JobState.FAILED)
    barrier = threading.Barrier(4)

    def reopen(number: int) -> Any:
        barrier.wait()
        return deployment.store.jobs.reopen(failed, due_at=deployment.clock.now(), turn=str(number))

    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(reopen, range(4)))
    (winner,) = filter(None, heard)
    assert winner == deployment.job(failed.ref)
    assert (winner.run, winner.moves) == (failed.run + 1, failed.moves + 1)


def test_a_run_that_was_kept_is_told_when_another_has_followed(deployment):
    first = a_job_in(deployment, JobState.MERGING)
    ended = deployment.store.jobs.end(first, JobState.PARTIAL, output=ObjectRef("o", "v", 1), cause=Cause("c", "So."))
    for _ in range(2):  # keeping it again changes nothing
        deployment.store.jobs.keep_run(ended)
    again = redriven(deployment, ended)
    told = deployment.store.jobs.of_run(again, 1)
    assert (told.state, told.run, told.output, told.cause) == (JobState.PARTIAL, 1, ended.output, ended.cause)
    assert (told.started_at, told.ended_at) == (ended.started_at, ended.ended_at)
    assert deployment.store.jobs.of_run(again, 2) == again
    for run in (0, 3, -1):
        with pytest.raises(RunNotFound):
            deployment.store.jobs.of_run(again, run)


def test_only_jobs_that_are_queued_are_in_the_queue_and_in_the_order_of_their_turns(deployment):
    jobs, refs = deployment.store.jobs, {}
    for turn in ("4#2#b", "0#9#c", "4#1#d", "9#1#a"):
        job = deployment.submit("text-stats", DATA).job
        refs[turn] = jobs.move(job, JobState.QUEUED, run=1, due_at=deployment.clock.now(), queue="queued", turn=turn)
    assert list(jobs.queued()) == [QueueEntry(refs[turn].ref, turn) for turn in sorted(refs)]
    jobs.move(refs["4#1#d"], JobState.RUNNING, due_at=deployment.clock.now())
    jobs.move(refs["0#9#c"], JobState.CANCELLED)
    assert [entry.turn for entry in jobs.queued()] == ["4#2#b", "9#1#a"]
    ran = deployment.job(refs["4#1#d"].ref)
    assert (ran.queue, ran.turn) == (None, None)


def test_a_job_comes_back_from_its_record_as_it_went_in(deployment):
    job = deployment.run("redact", b"a@b.example\n", options={"patterns": {"X": "x+"}}, file_name="größe 日本.txt")
    (stored,) = deployment.store.jobs.list(job.ref.tenant, state=None, after=None, limit=10).jobs
    assert stored == job == deployment.job(job.ref)


# --- shards


SHARD = Shard(3, (Chunk(30, 0, 10), Chunk(31, 10, 20)))
REF = JobRef("T1", "0" * 26)


def test_every_claim_raises_the_attempt_and_fences_the_one_before(deployment):
    shards = deployment.store.shards
    first = shards.claim(REF, SHARD, 1)
    second = shards.claim(REF, SHARD, 1)
    assert (first.attempt, second.attempt) == (1, 2)
    with pytest.raises(Superseded):
        shards.commit(REF, first)
    shards.commit(REF, second)
    shards.commit(REF, second)  # a commit whose answer was lost
    with pytest.raises(Superseded):
        shards.beat(REF, first, begun=30, underway=1)


def test_an_earlier_run_neither_claims_a_shard_nor_writes_its_crash_once_a_later_one_has(deployment):
    shards = deployment.store.shards
    shards.claim(REF, SHARD, 1)
    later = shards.claim(REF, SHARD, 2)
    with pytest.raises(Superseded, match="later run"):
        shards.claim(REF, SHARD, 1)
    shards.note_crash(REF, SHARD, 1, Cause("worker_died", "It died."))
    assert list(shards.all(REF)) == [later]
    shards.note_crash(REF, SHARD, 2, Cause("worker_died", "It died."))
    assert [record.crash.code for record in shards.all(REF)] == ["worker_died"]


def test_a_sign_of_life_says_where_the_worker_is_and_a_commit_that_nothing_is_underway(deployment):
    shards = deployment.store.shards
    record = shards.claim(REF, SHARD, 1)
    deployment.clock.advance(seconds=7)
    shards.beat(REF, record, begun=31, underway=2)
    (marked,) = shards.all(REF)
    assert (marked.beat_at, marked.begun, marked.underway) == (deployment.clock.now(), 31, 2)
    shards.commit(REF, replace(marked, begun=None))
    (committed,) = shards.all(REF)
    assert (committed.begun, committed.underway) == (None, 0)


def test_of_many_that_claim_at_once_only_the_last_can_commit(deployment):
    with ThreadPoolExecutor(6) as pool:
        records = list(pool.map(lambda _: deployment.store.shards.claim(REF, SHARD, 1), range(6)))
    assert sorted(record.attempt for record in records) == [1, 2, 3, 4, 5, 6]
    committed = []
    for record in records:
        try:
            deployment.store.shards.commit(REF, record)
        except Superseded:
            continue
        committed.append(record.attempt)
    assert committed == [6]


def test_a_shard_comes_back_from_its_record_as_it_was_committed(deployment):
    claimed = deployment.store.shards.claim(REF, SHARD, 1)
    tries = (Try(1, deployment.clock.now(), "transient", "It was busy."),)
    record = replace(
        claimed,
        run=1,
        parts=(Part(1, 0, ((30, 5), (31, 0))),),
        tallies={"größe": 2},
        failed=(FailedChunk(31, 10, 20, Cause("processor_error", "It raised."), 12, 4, "message"),),
        open=OpenChunk(30, 5, 2, {"größe": 1}, '{"seen":[1]}'),
        suspect=Suspect(30, 7, tries),
        handed_over=1,
        finished=True,
    )
    deployment.store.shards.commit(REF, record)
    assert list(deployment.store.shards.all(REF)) == [record]


def test_shards_come_by_number_and_only_those_of_the_job(deployment):
    for tenant, index in itertools.product(("T1", "T10"), (11, 2, 0)):
        deployment.store.shards.claim(JobRef(tenant, "0" * 26), Shard(index, SHARD.chunks), 1)
    assert [record.index for record in deployment.store.shards.all(REF)] == [0, 2, 11]


def test_a_setting_that_a_store_needs_and_lacks_is_named(deployment):
    with pytest.raises(InvalidSettings, match="BACKHAUL_JOBS_TABLE"):
        _ = Store(Settings()).jobs


# --- outputs


@pytest.fixture
def small_parts(monkeypatch):
    """S3's rules at a thousandth of their size: 5 KiB are the smallest part, 8 KiB are written."""
    monkeypatch.setattr(output_rules, "MIN_PART", 5 * 1024)
    monkeypatch.setattr(output_rules, "PART_WRITTEN", 8 * 1024)
    monkeypatch.setattr(output_rules, "COPY_GAIN", 8 * 1024)
    monkeypatch.setattr(output_rules, "MAX_PART_COPIED", 40 * 1024)
    monkeypatch.setattr("moto.settings.S3_UPLOAD_PART_MIN_SIZE", 5 * 1024, raising=False)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 5 * 1024, raising=False)


KIB = 1024
LENGTH = st.one_of(
    st.integers(0, 30 * KIB),
    st.sampled_from(
        [base * KIB + step for base in (0, 3, 5, 8, 13, 40, 45) for step in (-1, 0, 1) if base or step >= 0]
    ),
)
PIECES = st.lists(st.tuples(st.sampled_from(["write", "append"]), LENGTH), max_size=12)


def write_out(deployment: Any, pieces: list[tuple[str, int]], source: bytes) -> tuple[ObjectRef, bytes]:
    expected = b""
    with OutputWriter(deployment.store.objects, "out", "text/plain") as output:
        for number, (how, length) in enumerate(pieces):
            start = number * 101
            expected += source[start : start + length]
            if how == "write":
                output.write(source[start : start + length])
            else:
                output.append("source", start, length)
        return output.close(), expected


def test_an_output_of_any_pieces_equals_their_concatenation(deployment, small_parts):
    source = random.Random(5).randbytes(60 * KIB)
    deployment.store.objects.put("source", source)
    sizes: list[int] = []

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
    @given(PIECES)
    @example([])
    @example([("append", 0)])
    @example([("append", 46 * KIB)])
    @example([("write", 1), ("append", 13 * KIB - 1)])
    @example([("write", 8 * KIB), ("append", 8 * KIB), ("write", 1)])
    def holds(pieces: list[tuple[str, int]]) -> None:
        ref, expected = write_out(deployment, pieces, source)
        assert ref.size == len(expected)
        assert deployment.read(ref) == expected
        sizes.append(len(expected))

    holds()
    assert max(sizes) > 40 * KIB
    assert deployment.s3.list_multipart_uploads(Bucket="data").get("Uploads", []) == []


@pytest.mark.parametrize(
    "pieces",
    [
        [("append", 5 * MIB), ("append", 8 * MIB)],
        [("write", 1), ("append", 13 * MIB), ("write", 1)],
        [("append", 8 * MIB - 1), ("write", 1), ("append", 8 * MIB)],
        [("write", 5 * MIB - 1), ("append", 8 * MIB + 1), ("append", 8 * MIB)],
    ],
)
def test_parts_around_the_borders_are_such_as_s3_takes(deployment, pieces):
    source = random.Random(7).randbytes(14 * MIB)
    deployment.store.objects.put("source", source)
    ref, expected = write_out(deployment, pieces, source)
    assert deployment.read(ref) == expected


def test_an_output_that_fails_leaves_nothing_behind(deployment):
    def fail() -> None:
        with OutputWriter(deployment.store.objects, "out", "text/plain") as output:
            output.write(b"x" * (9 * MIB))
            raise OSError("no")

    with pytest.raises(OSError, match="no"):
        fail()
    assert deployment.s3.list_multipart_uploads(Bucket="data").get("Uploads", []) == []
    assert "Versions" not in deployment.s3.list_object_versions(Bucket="data", Prefix="out")


def test_an_output_has_its_media_type_whatever_its_size(deployment):
    for size in (1, 9 * MIB):
        ref, _ = write_out(deployment, [("write", size)], b"x" * size)
        assert (
            deployment.s3.head_object(Bucket="data", Key="out", VersionId=ref.version_id)["ContentType"] == "text/plain"
        )


# --- bodies


class Breaking(io.RawIOBase):
    """A body that gives some bytes and then breaks in its own way."""

    def __init__(self, data: bytes, then: Exception | None) -> None:
        super().__init__()
        self._data = data
        self._then = then

    def read(self, size: int = -1) -> bytes:
        piece, self._data = self._data[:size], self._data[size:]
        if piece or self._then is None:
            return piece
        raise self._then


BREAKS = [
    ResponseStreamingError(error="reset"),
    ReadTimeoutError(endpoint_url="https://s3"),
    IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ConnectionResetError("reset"),
    None,  # it just ends early
]


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda error: type(error).__name__)
def test_a_body_that_breaks_is_taken_up_where_it_broke(breaks):
    data = random.Random(3).randbytes(1000)
    opened: list[int] = []

    def get(position: int) -> Any:
        opened.append(position)
        return Breaking(data[position : min(position + 70, 950)], breaks if position + 70 < 950 else None)

    assert io.BufferedReader(ResumingBody(get, 100, 950), 64).read() == data[100:950]
    assert opened == list(range(100, 950, 70))


def test_a_body_that_cannot_even_be_opened_is_tried_again():
    answers = iter([ConnectionResetError("no"), ReadTimeoutError(endpoint_url="s3"), Breaking(b"hello", None)])

    def get(_: int) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert ResumingBody(get, 0, 5).read(5) == b"hello"


def test_a_body_that_breaks_again_and_again_without_progress_is_given_up():
    calls: list[int] = []

    def get(position: int) -> Any:
        calls.append(position)
        return Breaking(b"", ConnectionResetError("reset"))

    with pytest.raises(StoreUnavailable, match="broke off 5 times"):
        ResumingBody(get, 0, 5).read(5)
    assert calls == [0] * 5


def test_an_error_of_s3_is_no_break_to_be_mended_by_asking_again():
    def get(_: int) -> Any:
        raise ClientError({"Error": {"Code": "NoSuchVersion", "Message": "gone"}}, "GetObject")

    with pytest.raises(StoreRefused, match="NoSuchVersion"):
        ResumingBody(get, 0, 5).read(5)


def test_an_outage_of_s3_is_told_from_a_refusal():
    def get(_: int) -> Any:
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "Reduce your request rate."}}, "GetObject")

    with pytest.raises(StoreUnavailable, match="SlowDown"):
        ResumingBody(get, 0, 5).read(5)


def test_a_body_asks_for_nothing_when_there_is_nothing_to_read():
    def get(_: int) -> Any:
        raise AssertionError("asked")

    assert ResumingBody(get, 5, 5).read(10) == b""


def test_a_pinned_body_is_read_through_an_overwrite(deployment):
    ref = deployment.store.objects.put("k", b"0123456789")
    with deployment.store.objects.open(ref, 2, 8) as body:
        deployment.store.objects.put("k", b"overwritten")
        assert body.read(100) == b"234567"
