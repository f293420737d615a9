"""Dead letters: found once each, understood, and settled without a loss whenever the command is killed."""

import json
from itertools import count

import boto3
import msgspec
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from backhaul import Processor
from backhaul.errors import InvalidRequest, LetterNotFound, MalformedMessage, StoreUnavailable
from backhaul.job import JobRef, JobState
from backhaul.operations import settling
from backhaul.operations.contents import Malformed, Queue
from backhaul.operations.deadletters import short_ids
from backhaul.operations.reasons import Reason
from backhaul.operations.settling import Discard, Fate, Outcome
from backhaul.stages.command import Redriven
from backhaul.stages.dispatch import uploads_in
from backhaul.store import ChangeStream, queues
from backhaul.store.stream import Stretch
from backhaul.task import RunTask
from tests.stages.desk import killed_at, letter_of, make_desk

NOBODY = JobRef("AIDAEXAMPLE", "01kb3x5s0qf8m2v9d7c6t4h1zn")


@pytest.fixture
def desk(deployment, monkeypatch):
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    return make_desk(deployment)


def reasons(desk, **wanted):
    return [letter.reason for letter in desk.letters(**wanted)]


# --- why a letter is dead


def test_what_is_no_s3_event_is_malformed(desk):
    for body in ("not json", "[]", '{"Records": 1}', '{"Event": "s3:TestEvent"}', '{"Records": []}', "[" * 5000):
        desk.put(Queue.INTAKE, body)
    assert set(reasons(desk)) == {Reason.MALFORMED}


@pytest.mark.parametrize(
    "body", ["{}", "null", '{"DDBStreamBatchInfo": {}}', '"\\ud800"', "[" * 5000, "\u202eevil\x85"]
)
@pytest.mark.parametrize("queue", [Queue.FAILED_CHUNKS, Queue.ANNOUNCE])
def test_what_another_queue_would_hold_is_malformed(desk, queue, body):
    desk.put(queue, body)
    (letter,) = desk.letters()
    assert letter.reason is Reason.MALFORMED
    assert isinstance(letter.content, Malformed)


@pytest.mark.parametrize("change", [{"schema_version": 2}, {"tenant": "a#b"}, {"job_id": "../x"}])
def test_a_letter_of_another_form_is_malformed(desk, change):
    desk.put_chunk(NOBODY, **change)
    assert reasons(desk) == [Reason.MALFORMED]


def test_a_batch_that_ends_before_it_begins_is_malformed(desk):
    desk.ended_job()
    batch = desk.put_batch()
    batch["DDBStreamBatchInfo"] |= {"startSequenceNumber": "9", "endSequenceNumber": "1"}
    desk.put(Queue.ANNOUNCE, json.dumps(batch))
    assert reasons(desk) == [Reason.UNANNOUNCED, Reason.MALFORMED]


def test_an_upload_that_was_never_claimed_is_stuck_until_it_is(desk):
    job = desk.put_upload()
    assert reasons(desk) == [Reason.STUCK_UPLOAD]
    desk.deployment.receive(desk.letters()[0].oldest.body)
    assert desk.deployment.job(job).state is JobState.RUNNING
    assert reasons(desk) == [Reason.RESOLVED]


def test_a_job_that_is_gone_is_unknown(desk):
    desk.put_chunk(NOBODY)
    job = desk.put_upload()
    boto3.client("dynamodb").delete_item(
        TableName="jobs", Key={"pk": {"S": f"T#{job.tenant}#J#{job.job_id}"}, "sk": {"S": "JOB"}}
    )
    assert reasons(desk) == [Reason.UNKNOWN_JOB, Reason.UNKNOWN_JOB]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("processor_error", Reason.POISON),
        ("record_timeout", Reason.POISON),
        ("a_code_of_tomorrow", Reason.POISON),
        ("worker_died", Reason.CRASH),
        ("not_processed", Reason.CRASH),
        ("transient", Reason.TRANSIENT),
        ("provider_busy", Reason.TRANSIENT),
        ("provider_down", Reason.TRANSIENT),
        ("unsuitable_input", Reason.UNSUITABLE),
    ],
)
def test_a_failed_chunk_is_classed_by_its_cause(desk, code, reason):
    desk.put_chunk(desk.ended_job(), code=code)
    assert reasons(desk) == [reason]


def test_a_chunk_that_has_a_result_by_now_is_resolved_and_its_neighbour_is_not(desk):
    job = desk.ended_job()
    desk.put_chunk(job, 0)
    desk.put_chunk(job, 1)
    desk.commit(job, 1)
    assert {letter.chunk.chunk: letter.reason for letter in desk.letters()} == {0: Reason.POISON, 1: Reason.RESOLVED}


def test_a_job_that_succeeded_in_a_later_run_has_resolved_its_letters(desk):
    job = desk.deployment.run("text-stats", b"one\n")
    desk.put_chunk(job.ref, 7, run=job.run)
    assert reasons(desk) == [Reason.POISON]
    desk.put_chunk(job.ref, 7, run=job.run - 1)
    assert sorted(reasons(desk)) == [Reason.POISON, Reason.RESOLVED]


def test_a_job_whose_record_cannot_be_read_hides_no_letter_and_is_not_taken_for_gone(desk):
    job = desk.put_upload()
    desk.put_chunk(job)
    boto3.client("dynamodb").update_item(
        TableName="jobs",
        Key={"pk": {"S": f"T#{job.tenant}#J#{job.job_id}"}, "sk": {"S": "JOB"}},
        UpdateExpression="SET #state = :odd",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":odd": {"S": "OF_ANOTHER_VERSION"}},
    )
    assert reasons(desk) == [Reason.STUCK_UPLOAD, Reason.POISON]
    settled = {each.unit.queue: each.outcome.fate for each in desk.redrive()}
    assert settled == {Queue.INTAKE: Fate.REDRIVEN, Queue.FAILED_CHUNKS: Fate.KEPT}


# --- finding


def test_everything_is_found_though_sqs_gives_ten_at_a_time_and_nothing_now_and_then(desk, monkeypatch):
    job = desk.ended_job()
    for chunk in range(23):
        desk.put_chunk(job, chunk)
    real, empty = queues.MessageQueue.receive, count()

    def patchy(self, seconds):
        return () if next(empty) % 2 == 0 else real(self, seconds)

    monkeypatch.setattr(queues.MessageQueue, "receive", patchy)
    assert len(desk.letters(queues=(Queue.FAILED_CHUNKS,))) == 23


def test_copies_of_a_letter_are_one_letter(desk):
    job = desk.ended_job()
    desk.put_chunk(job, 3, copies=2)
    desk.put_chunk(job, 3, failed_at=letter_of(job).failed_at.replace(hour=13))
    desk.put_upload(copies=2)
    desk.put(Queue.ANNOUNCE, "nonsense", copies=2)
    assert [(letter.queue, len(letter.copies)) for letter in desk.letters()] == [
        (Queue.INTAKE, 2),
        (Queue.FAILED_CHUNKS, 3),
        (Queue.ANNOUNCE, 2),
    ]


def test_filters_narrow_what_is_found(desk):
    one, two = desk.ended_job(), desk.ended_job()
    desk.put_chunk(one, 0)
    desk.put_chunk(two, 0, code="worker_died")
    desk.put_upload()
    desk.put(Queue.ANNOUNCE, "nonsense")
    assert reasons(desk, queues=(Queue.ANNOUNCE,)) == [Reason.MALFORMED]
    assert [letter.job for letter in desk.letters(job=two.job_id)] == [two]
    assert [letter.job for letter in desk.letters(reason=Reason.CRASH)] == [two]
    assert reasons(desk, tenant=one.tenant, queues=(Queue.FAILED_CHUNKS,)) == [Reason.POISON, Reason.CRASH]
    assert reasons(desk, tenant="SOMEBODYELSE") == []


def test_a_limit_tells_whether_there_are_more(desk):
    job = desk.ended_job()
    for chunk in range(3):
        desk.put_chunk(job, chunk)
    for limit, complete in ((2, False), (3, True), (4, True)):
        found = desk.look(limit=limit)
        assert (len(found.letters), found.complete) == (min(limit, 3), complete)


def test_a_letter_is_called_by_its_id_or_a_beginning_of_it_or_its_letter_id(desk):
    job = desk.ended_job()
    letter = desk.put_chunk(job, 5)
    desk.put_chunk(job, 6)
    (found,) = desk.letters(ids=(letter.letter_id,))
    assert found.chunk == letter
    name = short_ids(desk.letters())[found.oldest.message_id]
    assert len(name) == 8
    for ids in ((name,), (found.oldest.message_id, letter.letter_id)):
        assert [each.chunk.chunk for each in desk.letters(ids=ids)] == [5]


def test_an_id_that_fits_none_or_several_says_so(desk, monkeypatch):
    job = desk.ended_job()
    for chunk in range(2):
        desk.put_chunk(job, chunk)
    with pytest.raises(LetterNotFound, match="'nobody'"):
        desk.look(ids=("nobody",)).check()
    with pytest.raises(InvalidRequest, match="too short"):
        desk.look(ids=("",))
    monkeypatch.setattr("backhaul.operations.deadletters.DeadLetter.is_called", lambda *_: True)
    with pytest.raises(InvalidRequest, match="fits 2 dead letters"):
        desk.look(ids=("abcd",))


def test_looking_changes_nothing_and_lets_go_at_once(desk):
    desk.put_chunk(desk.ended_job(), copies=2)
    desk.put(Queue.ANNOUNCE, "nonsense")
    assert len(desk.letters()) == 2
    assert desk.attributes("FailedChunksUrl") == (2, 0)
    assert desk.attributes("AnnounceDeadLettersUrl") == (1, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_received_is_let_go_after_an_error_too(desk, monkeypatch, error):
    desk.put_chunk(desk.ended_job())

    def broken(*_):
        raise error

    monkeypatch.setattr("backhaul.operations.deadletters.classify", broken)
    with pytest.raises(error):
        desk.look()
    assert desk.attributes("FailedChunksUrl") == (1, 0)


def test_ctrl_c_stops_every_search_at_once(desk, monkeypatch):
    endless = count()

    def receive(self, _seconds):
        message = queues.Message(f"m{next(endless)}", "receipt", "nonsense", desk.deployment.clock.now(), 1)
        return (message,)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(queues.MessageQueue, "receive", receive)
    monkeypatch.setattr(queues.MessageQueue, "release", lambda *_: None)
    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        desk.look()


def test_aws_failing_while_letting_go_hides_no_other_error(desk, monkeypatch):
    desk.put_chunk(desk.ended_job())
    refusal = ClientError({"Error": {"Code": "Throttling"}}, "ChangeMessageVisibilityBatch")

    def refuse(*_):
        raise refusal

    monkeypatch.setattr(queues.MessageQueue, "hide", refuse)
    assert len(desk.letters()) == 1


def test_a_right_to_single_calls_is_enough_where_batches_need_their_own(desk, monkeypatch):
    real = BaseClient._make_api_call

    def picky(self, operation, arguments):
        if operation.endswith("Batch") and operation != "SendMessageBatch":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", picky)
    desk.put_upload(copies=2)
    desk.look()
    assert desk.attributes("IntakeDeadLettersUrl") == (2, 0)
    desk.redrive()
    assert (desk.left("IntakeDeadLettersUrl"), desk.left("IntakeQueueUrl")) == (0, 1)
    queue = desk.operations.dead_letters()[Queue.INTAKE]
    gone = queues.Message("gone", "no receipt of anything", "", desk.deployment.clock.now(), 1)
    assert queue.hide([gone], 9) == {"gone"}


def test_a_right_that_is_missing_altogether_is_an_error(desk, monkeypatch):
    desk.put_upload()
    real = BaseClient._make_api_call

    def denied(self, operation, arguments):
        if "Visibility" in operation:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", denied)
    with pytest.raises(ClientError, match="ChangeMessageVisibility operation"):
        desk.redrive()


def test_what_is_looked_at_for_long_stays_hidden(desk):
    for chunk in range(2):
        desk.put_chunk(desk.ended_job(), chunk)
    with desk.held() as held:
        messages = list(held.receive(Queue.FAILED_CHUNKS))
        desk.time_passes()
        desk.deployment.clock.advance(seconds=149)
        held.renew()
        assert desk.attributes("FailedChunksUrl") == (2, 0)
        desk.deployment.clock.advance(seconds=1)
        held.renew()
        assert desk.attributes("FailedChunksUrl") == (0, 2)
        assert held.claim(Queue.FAILED_CHUNKS, messages)


# --- redriving


def test_an_upload_goes_back_to_the_intake_queue_once_however_many_copies_there_are(desk):
    job = desk.put_upload(copies=3)
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.REDRIVEN
    assert (desk.left("IntakeDeadLettersUrl"), desk.left("IntakeQueueUrl")) == (0, 1)
    (message,) = desk.operations.intake().receive(30)
    assert [upload.job for upload in uploads_in(message.body)] == [job]


def test_failed_chunks_of_a_job_start_one_run(desk):
    one, two = desk.ended_job(), desk.ended_job()
    for job, chunk in ((one, 0), (two, 0), (one, 1)):
        desk.put_chunk(job, chunk, copies=2)
    settled = desk.redrive()
    assert [len(each.unit.letters) for each in settled] == [2, 1]
    assert desk.runs_started == [one, two]
    assert desk.left("FailedChunksUrl") == 0


def test_so_many_letters_of_a_job_that_they_take_several_acts_start_one_run(desk, monkeypatch):
    monkeypatch.setattr("backhaul.operations.redriving.LETTERS_MOST", 2)
    job = desk.ended_job()
    for chunk in (0, 1, 17, 18, 19):
        desk.put_chunk(job, chunk)
    settled = desk.redrive()
    assert [each.outcome.fate for each in settled] == [Fate.REDRIVEN] * 3
    assert "which has not ended" in settled[-1].outcome.said
    assert desk.runs_started == [job]
    assert desk.left("FailedChunksUrl") == 0


def test_a_letter_of_the_run_that_is_at_work_stays(desk):
    job = desk.ended_job()
    desk.redrive_job(job)
    desk.put_chunk(job, run=2)
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert "is RUNNING" in settled.outcome.said
    assert desk.attributes("FailedChunksUrl") == (1, 0)


def test_a_job_of_which_nothing_is_missing_has_resolved_its_letters(desk, monkeypatch):
    job = desk.ended_job()
    desk.put_chunk(job, 0)
    real = desk.redrive_job

    def mended_meanwhile(ref, *, only_failed):
        monkeypatch.setattr(desk, "redrive_job", real)
        desk.commit(job, 0)
        return Redriven(desk.deployment.job(ref))

    monkeypatch.setattr(desk, "redrive_job", mended_meanwhile)
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.RESOLVED
    assert desk.left("FailedChunksUrl") == 0


def test_a_chunk_that_is_missing_keeps_its_letter_though_the_job_finds_nothing_to_run(desk, monkeypatch):
    desk.put_chunk(desk.ended_job(), 0)
    asked = []

    def nothing(ref, *, only_failed):
        asked.append(only_failed)
        return Redriven(desk.deployment.job(ref))

    monkeypatch.setattr(desk, "redrive_job", nothing)
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert asked == [True, False]
    assert desk.attributes("FailedChunksUrl") == (1, 0)


def test_what_was_never_tried_is_redriven_too_and_before_what_was(desk, monkeypatch):
    monkeypatch.setattr("backhaul.operations.redriving.LETTERS_MOST", 1)
    job = desk.ended_job()
    asked = []
    real = desk.redrive_job

    def noted(ref, *, only_failed):
        asked.append(only_failed)
        return real(ref, only_failed=only_failed)

    monkeypatch.setattr(desk, "redrive_job", noted)
    desk.put_chunk(job, 0)
    desk.put_chunk(job, 1, code="worker_died", attempts=())
    assert [each.outcome.fate for each in desk.redrive()] == [Fate.REDRIVEN] * 2
    assert asked[0] is False
    assert desk.runs_started == [job]


class Picky(Processor):
    """Refuse a line, until it is mended."""

    name = "picky"
    mended = False

    def process(self, record, ctx):
        if record == "bad" and not type(self).mended:
            raise ValueError("bad line")
        return record.upper()


def test_a_poisoned_job_is_whole_once_its_processor_is_mended_and_its_letters_are_redriven(desk, monkeypatch):
    deployment = desk.deployment.with_processors(Picky)
    monkeypatch.setattr(desk, "deployment", deployment)
    task = deployment.start("picky", b"good\nbad\nfine\n", options={"chunk_bytes": 5})
    assert deployment.finish(task).state is JobState.PARTIAL
    (letter,) = desk.letters()
    assert letter.reason is Reason.POISON
    assert letter.chunk.attempts
    monkeypatch.setattr(Picky, "mended", True)
    (settled,) = desk.redrive()
    assert settled.outcome == Outcome(Fate.REDRIVEN, "Run 2 of the job does what is missing.")
    assert desk.letters() == ()
    ended = deployment.finish(RunTask(task.job, 2))
    assert ended.state is JobState.SUCCEEDED
    assert deployment.read(ended.output).split() == [b"GOOD", b"BAD", b"FINE"]


def test_resolved_letters_are_deleted_and_start_nothing(desk):
    job = desk.ended_job()
    desk.put_chunk(job, 0)
    desk.commit(job, 0)
    upload = desk.put_upload()
    desk.deployment.receive(desk.letters(queues=(Queue.INTAKE,))[0].oldest.body)
    assert [each.outcome.fate for each in desk.redrive()] == [Fate.RESOLVED, Fate.RESOLVED]
    assert desk.runs_started == []
    assert desk.left("FailedChunksUrl") + desk.left("IntakeDeadLettersUrl") + desk.left("IntakeQueueUrl") == 0
    assert [record.job for record in desk.operations.store.audit.newest(upload)] == [f"AIDAEXAMPLE/{upload.job_id}"]


def test_what_would_only_come_back_stays_and_leaves_no_trace(desk):
    desk.put(Queue.INTAKE, "nonsense")
    desk.put_chunk(NOBODY)
    assert [each.outcome.fate for each in desk.redrive()] == [Fate.KEPT, Fate.KEPT]
    assert (desk.left("IntakeDeadLettersUrl"), desk.left("FailedChunksUrl")) == (1, 1)
    assert list(desk.operations.store.audit.newest()) == []


def heard(desk, monkeypatch, refuse=False):
    """Let the bus remember what it is told."""
    events = []

    def publish(_self, batch):
        events.extend(event.detail.event_id for event in batch)
        return list(batch) if refuse else []

    monkeypatch.setattr("backhaul.store.bus.EventBus.publish", publish)
    return events


def test_changes_that_were_not_announced_are_read_from_the_stream_again(desk, monkeypatch):
    events = heard(desk, monkeypatch)
    job = desk.deployment.run("text-stats", b"one\n")
    desk.deployment.submit("text-stats", b"one\n")
    everything = [record["dynamodb"] for record in desk.deployment.stream()]
    desk.put_batch(len(everything))
    desk.put_upload()  # the stream goes on
    (settled,) = desk.redrive(queues=(Queue.ANNOUNCE,))
    assert settled.outcome.fate is Fate.REDRIVEN
    assert {event.partition(".")[0] for event in events} == {job.ref.job_id}
    assert len(set(events)) == 3  # queued, started, succeeded
    assert desk.left("AnnounceDeadLettersUrl") == 0


def test_a_batch_begins_and_ends_where_the_letter_says(desk, monkeypatch):
    events = heard(desk, monkeypatch)
    first, second = desk.ended_job(), desk.ended_job()
    desk.put_batch(2)
    third = desk.ended_job()
    desk.redrive()
    assert {event.partition(".")[0] for event in events} == {second.job_id}
    assert first.job_id != third.job_id


def test_a_bus_that_refuses_leaves_the_letter(desk, monkeypatch):
    heard(desk, monkeypatch, refuse=True)
    desk.ended_job()
    desk.put_batch()
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert "refused" in settled.outcome.said
    assert desk.attributes("AnnounceDeadLettersUrl") == (1, 0)


@pytest.mark.parametrize("item", [{"moves": {"N": "1"}}, {"moves": {"N": "1"}, "tenant": {"S": "T"}}])
def test_a_change_that_nobody_can_read_keeps_its_letter_and_keeps_no_other_from_its_new_home(desk, monkeypatch, item):
    events = heard(desk, monkeypatch)
    boto3.client("dynamodb").put_item(TableName="jobs", Item={"pk": {"S": "T#T#J#x"}, "sk": {"S": "JOB"}} | item)
    desk.put_batch(1)
    desk.failed_job()
    desk.put_batch(1)
    assert sorted(each.outcome.fate for each in desk.redrive()) == [Fate.KEPT, Fate.REDRIVEN]
    assert len(events) == 1
    assert desk.attributes("AnnounceDeadLettersUrl") == (1, 0)


class Stream:
    """A stream that answers what a test tells it to."""

    class exceptions:  # noqa: N801  # boto3's own name
        class TrimmedDataAccessException(Exception):
            pass

        class ResourceNotFoundException(Exception):
            pass

    def __init__(self, *answers):
        self.answers = iter(answers)

    def get_shard_iterator(self, **_):
        return {"ShardIterator": "i"}

    def get_records(self, **_):
        answer = next(self.answers)
        if isinstance(answer, type):
            raise answer
        numbers, after = answer
        return {"Records": [{"dynamodb": {"SequenceNumber": each}} for each in numbers], "NextShardIterator": after}


STRETCH = Stretch("arn", "shard", "5", "10")


@pytest.mark.parametrize(
    "answers",
    [
        [Stream.exceptions.TrimmedDataAccessException],
        [Stream.exceptions.ResourceNotFoundException],
        [(["7", "10"], None)],
        [([], None)],
    ],
)
def test_a_stream_that_has_forgotten_says_so_plainly_and_leaves_the_letter(desk, monkeypatch, answers):
    assert ChangeStream(Stream(*answers)).read(STRETCH) is None
    desk.ended_job()
    desk.put_batch()
    monkeypatch.setattr(ChangeStream, "read", lambda *_: None)
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert "24 hours" in settled.outcome.said
    assert desk.attributes("AnnounceDeadLettersUrl") == (1, 0)


def test_a_stream_is_read_over_empty_answers_to_the_last_record_and_no_further():
    stream = Stream(([], "i"), (["5", "7"], "i"), ([], "i"), (["9", "10", "11"], "i"))
    assert [image["SequenceNumber"] for image in ChangeStream(stream).read(STRETCH)] == ["5", "7", "9", "10"]


def test_a_stream_that_is_silent_is_not_waited_for_for_ever():
    with pytest.raises(StoreUnavailable, match="gave nothing"):
        ChangeStream(Stream((["5"], "i"), *[([], "i")] * 60)).read(STRETCH)


def test_an_error_about_one_letter_keeps_no_other_from_its_new_home(desk, monkeypatch):
    one, two = desk.ended_job(), desk.ended_job()
    desk.put_chunk(one)
    desk.put_chunk(two)
    real = desk.redrive_job

    def sometimes(ref, *, only_failed):
        if ref == one:
            raise MalformedMessage("The plan is gone.")
        return real(ref, only_failed=only_failed)

    monkeypatch.setattr(desk, "redrive_job", sometimes)
    assert [each.outcome.fate for each in desk.redrive()] == [Fate.KEPT, Fate.REDRIVEN]
    (letter,) = desk.letters()
    assert letter.job == one
    assert [record.outcome for record in desk.operations.store.audit.newest(one)] == ["kept: The plan is gone."]


def test_a_letter_that_another_command_took_meanwhile_is_left_to_it(desk, monkeypatch):
    desk.put_chunk(desk.ended_job())
    monkeypatch.setattr(queues.MessageQueue, "hide", lambda _self, messages, _: {each.message_id for each in messages})
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert "Another command" in settled.outcome.said
    assert desk.runs_started == []


def test_a_letter_that_sqs_does_not_delete_is_told_of(desk, monkeypatch):
    desk.put_upload()
    monkeypatch.setattr(
        queues.MessageQueue, "delete", lambda _self, messages: frozenset(each.message_id for each in messages)
    )
    (settled,) = desk.redrive()
    assert settled.outcome.fate is Fate.KEPT
    assert "did not delete" in settled.outcome.said


def test_a_rate_spreads_acts_over_time_and_keeps_the_letters_hidden(desk):
    job = desk.ended_job()
    for _ in range(4):
        desk.put_upload()
    desk.put_chunk(job)
    desk.redrive(rate=0.05)
    assert sum(desk.slept) == pytest.approx(4 * 20)
    assert max(desk.slept) <= 10


def test_no_rate_is_no_wait(desk):
    for _ in range(3):
        desk.put_upload()
    desk.redrive()
    assert desk.slept == []


# --- discarding, and the audit trail


def test_a_discard_keeps_the_body_in_the_audit_trail_unless_it_is_large(desk):
    desk.put(Queue.INTAKE, "small")
    desk.put(Queue.INTAKE, "é" * (settling.BODY_MOST // 2))
    assert [each.outcome.fate for each in desk.settle(Discard())] == [Fate.DISCARDED] * 2
    assert desk.left("IntakeDeadLettersUrl") == 0
    records = list(desk.operations.store.audit.newest())
    assert {record.body for record in records} == {"small", None}
    assert {record.action for record in records} == {"dlq discard"}


def test_the_audit_trail_says_who_did_what_to_which_letter_and_why(desk):
    job = desk.ended_job()
    letter = desk.put_chunk(job, 4, copies=2)
    (found,) = desk.letters()
    desk.redrive()
    (record,) = desk.operations.store.audit.newest()
    assert (record.action, record.why) == ("dlq redrive", "tests")
    assert record.who.startswith("arn:aws:iam::")
    assert record.job == f"{job.tenant}/{job.job_id}"
    assert record.what["queue"] == Queue.FAILED_CHUNKS
    (named,) = record.what["letters"]
    assert set(named["message_ids"]) == {copy.message_id for copy in found.copies}
    assert (named["letter_id"], named["reason"], named["copies"]) == (letter.letter_id, Reason.POISON, 2)
    assert record.outcome == "redriven: Run 2 of the job does what is missing."
    assert record.body is None
    assert list(desk.operations.store.audit.newest(job)) == [record]


def test_an_audit_record_is_no_job_in_any_list(desk):
    job = desk.put_upload()
    desk.redrive()
    assert [each.ref for each in desk.operations.store.jobs.list(job.tenant, state=None, after=None, limit=9).jobs] == [
        job
    ]
    assert desk.deployment.announce(desk.deployment.changes()) is None


def test_looking_writes_nothing_down(desk):
    desk.put_upload()
    desk.look()
    assert list(desk.operations.store.audit.newest()) == []


# --- killed at any moment


def upload(desk):
    job = desk.put_upload(copies=2)

    def check(_):
        for message in desk.operations.intake().receive(1):
            desk.deployment.receive(message.body)
            desk.operations.intake().delete([message])
        assert desk.deployment.job(job).state is JobState.RUNNING
        assert desk.deployment.job(job).run == 1
        desk.operations.store.slots.drop(job)

    return Queue.INTAKE, desk.redriver(), check


def chunks(desk):
    job = desk.failed_job()
    desk.put_chunk(job, 0, copies=2)
    desk.put_chunk(job, 1)

    def check(_):
        assert desk.deployment.job(job).run == 2
        desk.operations.store.slots.drop(job)  # or the rounds of this test would soon fill all

    return Queue.FAILED_CHUNKS, desk.redriver(), check


def batch(desk):
    job = desk.failed_job()
    desk.put_batch(1)

    def check(events):
        assert {event.partition(".")[0] for event in events} == {job.job_id}
        assert len(set(events)) == 1

    return Queue.ANNOUNCE, desk.redriver(), check


def thrown_away(desk):
    body = f"nonsense {msgspec.json.encode(desk.ended_job()).decode()}"
    desk.put(Queue.INTAKE, body)

    def check(_):
        assert body in {record.body for record in desk.operations.store.audit.newest()}

    return Queue.INTAKE, Discard(), check


DEAD = {
    Queue.INTAKE: "IntakeDeadLettersUrl",
    Queue.FAILED_CHUNKS: "FailedChunksUrl",
    Queue.ANNOUNCE: "AnnounceDeadLettersUrl",
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", [upload, chunks, batch, thrown_away])
def test_a_command_that_is_killed_at_any_call_loses_nothing_and_its_next_run_doubles_nothing(
    desk, monkeypatch, scene, after
):
    events = heard(desk, monkeypatch)
    audit = desk.operations.store.audit
    for call in count():
        events.clear()
        written = len(list(audit.newest()))
        queue, act, check = scene(desk)
        with killed_at(call, after=after, monkeypatch=monkeypatch) as was_killed:
            desk.settle(act, queues=(queue,))
        if was_killed():
            desk.time_passes()
            left = desk.left(DEAD[queue])
            assert left or len(list(audit.newest())) > written
            desk.settle(act, queues=(queue,))
        assert desk.left(DEAD[queue]) == 0
        check(events)
        assert len(list(audit.newest())) > written
        if not was_killed():
            break
    assert call > 6


@pytest.mark.parametrize("scene", [upload, chunks, batch, thrown_away])
def test_ctrl_c_before_the_delete_lets_go_of_the_letters_and_the_next_run_finishes(desk, monkeypatch, scene):
    heard(desk, monkeypatch)
    real = queues.MessageQueue.delete

    def interrupted(*_):
        raise KeyboardInterrupt

    queue, act, _ = scene(desk)
    monkeypatch.setattr(queues.MessageQueue, "delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        desk.settle(act, queues=(queue,))
    assert desk.attributes(DEAD[queue])[1] == 0
    monkeypatch.setattr(queues.MessageQueue, "delete", real)
    desk.settle(act, queues=(queue,))
    assert desk.left(DEAD[queue]) == 0
