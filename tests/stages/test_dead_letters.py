"""Dead letters: found once each, understood, and settled without a loss whenever the command is killed."""

import json
from itertools import count

import boto3
import msgspec
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from backhaul import Processor
from backhaul.model.errors import DeadLetterNotFound, InvalidRequest, MalformedMessage, StoreUnavailable
from backhaul.model.job import JobRef, JobState
from backhaul.model.task import RunTask
from backhaul.operations import acting
from backhaul.operations.acting import ActResult, ActStatus, Discard
from backhaul.operations.contents import Malformed, Queue
from backhaul.operations.dead_letters import short_ids
from backhaul.operations.reasons import DeadLetterReason
from backhaul.stages.command import Redriven
from backhaul.stages.dispatch import uploads_in
from backhaul.store import ChangeStream, queues
from backhaul.store.stream import Stretch
from tests.stages.operator_seat import dead_letter_of, killed_at, make_operator

NOBODY = JobRef("AIDAEXAMPLE", "01kb3x5s0qf8m2v9d7c6t4h1zn")


@pytest.fixture
def operator(deployment, monkeypatch):
    monkeypatch.setattr(queues, "WAIT_SECONDS", 0)
    return make_operator(deployment)


def reasons(operator, **wanted):
    return [dead_letter.reason for dead_letter in operator.dead_letters(**wanted)]


# --- why a dead letter is dead


def test_what_is_no_s3_event_is_malformed(operator):
    for body in ("not json", "[]", '{"Records": 1}', '{"Event": "s3:TestEvent"}', '{"Records": []}', "[" * 5000):
        operator.put(Queue.INTAKE, body)
    assert set(reasons(operator)) == {DeadLetterReason.MALFORMED}


@pytest.mark.parametrize(
    "body", ["{}", "null", '{"DDBStreamBatchInfo": {}}', '"\\ud800"', "[" * 5000, "\u202eevil\x85"]
)
@pytest.mark.parametrize("queue", [Queue.FAILED_CHUNKS, Queue.ANNOUNCE])
def test_what_another_queue_would_hold_is_malformed(operator, queue, body):
    operator.put(queue, body)
    (dead_letter,) = operator.dead_letters()
    assert dead_letter.reason is DeadLetterReason.MALFORMED
    assert isinstance(dead_letter.content, Malformed)


@pytest.mark.parametrize("change", [{"schema_version": 3}, {"tenant": "a#b"}, {"job_id": "../x"}])
def test_a_dead_letter_of_another_form_is_malformed(operator, change):
    operator.put_chunk(NOBODY, **change)
    assert reasons(operator) == [DeadLetterReason.MALFORMED]


def test_a_batch_that_ends_before_it_begins_is_malformed(operator):
    operator.ended_job()
    batch = operator.put_batch()
    batch["DDBStreamBatchInfo"] |= {"startSequenceNumber": "9", "endSequenceNumber": "1"}
    operator.put(Queue.ANNOUNCE, json.dumps(batch))
    assert reasons(operator) == [DeadLetterReason.UNANNOUNCED, DeadLetterReason.MALFORMED]


def test_an_upload_that_was_never_claimed_is_stuck_until_it_is(operator):
    job = operator.put_upload()
    assert reasons(operator) == [DeadLetterReason.STUCK_UPLOAD]
    operator.deployment.receive(operator.dead_letters()[0].oldest.body)
    assert operator.deployment.job(job).state is JobState.RUNNING
    assert reasons(operator) == [DeadLetterReason.RESOLVED]


def test_a_job_that_is_gone_is_unknown(operator):
    operator.put_chunk(NOBODY)
    job = operator.put_upload()
    boto3.client("dynamodb").delete_item(
        TableName="jobs", Key={"pk": {"S": f"T#{job.tenant}#J#{job.job_id}"}, "sk": {"S": "JOB"}}
    )
    assert reasons(operator) == [DeadLetterReason.UNKNOWN_JOB, DeadLetterReason.UNKNOWN_JOB]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("processor_error", DeadLetterReason.POISON),
        ("record_timeout", DeadLetterReason.POISON),
        ("a_code_of_tomorrow", DeadLetterReason.POISON),
        ("worker_died", DeadLetterReason.CRASH),
        ("not_processed", DeadLetterReason.CRASH),
        ("transient", DeadLetterReason.TRANSIENT),
        ("provider_busy", DeadLetterReason.TRANSIENT),
        ("provider_down", DeadLetterReason.TRANSIENT),
        ("unsuitable_input", DeadLetterReason.UNSUITABLE),
    ],
)
def test_a_failed_chunk_is_classed_by_its_cause(operator, code, reason):
    operator.put_chunk(operator.ended_job(), code=code)
    assert reasons(operator) == [reason]


def test_a_chunk_that_has_a_result_by_now_is_resolved_and_its_neighbour_is_not(operator):
    job = operator.ended_job()
    operator.put_chunk(job, 0)
    operator.put_chunk(job, 1)
    operator.commit(job, 1)
    assert {dead_letter.chunk.chunk: dead_letter.reason for dead_letter in operator.dead_letters()} == {
        0: DeadLetterReason.POISON,
        1: DeadLetterReason.RESOLVED,
    }


def test_a_job_that_succeeded_in_a_later_run_has_resolved_its_dead_letters(operator):
    job = operator.deployment.run("text-stats", b"one\n")
    operator.put_chunk(job.ref, 7, run=job.run)
    assert reasons(operator) == [DeadLetterReason.POISON]
    operator.put_chunk(job.ref, 7, run=job.run - 1)
    assert sorted(reasons(operator)) == [DeadLetterReason.POISON, DeadLetterReason.RESOLVED]


def test_a_job_whose_record_cannot_be_read_hides_no_dead_letter_and_is_not_taken_for_gone(operator):
    job = operator.put_upload()
    operator.put_chunk(job)
    boto3.client("dynamodb").update_item(
        TableName="jobs",
        Key={"pk": {"S": f"T#{job.tenant}#J#{job.job_id}"}, "sk": {"S": "JOB"}},
        UpdateExpression="SET #state = :odd",
        ExpressionAttributeNames={"#state": "state"},
        ExpressionAttributeValues={":odd": {"S": "OF_ANOTHER_VERSION"}},
    )
    assert reasons(operator) == [DeadLetterReason.STUCK_UPLOAD, DeadLetterReason.POISON]
    settled = {each.group.queue: each.result.status for each in operator.redrive()}
    assert settled == {Queue.INTAKE: ActStatus.REDRIVEN, Queue.FAILED_CHUNKS: ActStatus.KEPT}


# --- finding


def test_everything_is_found_though_sqs_gives_ten_at_a_time_and_nothing_now_and_then(operator, monkeypatch):
    job = operator.ended_job()
    for chunk in range(23):
        operator.put_chunk(job, chunk)
    real, empty = queues.MessageQueue.receive, count()

    def patchy(self, seconds):
        return () if next(empty) % 2 == 0 else real(self, seconds)

    monkeypatch.setattr(queues.MessageQueue, "receive", patchy)
    assert len(operator.dead_letters(queues=(Queue.FAILED_CHUNKS,))) == 23


def test_copies_of_a_dead_letter_are_one_dead_letter(operator):
    job = operator.ended_job()
    operator.put_chunk(job, 3, copies=2)
    operator.put_chunk(job, 3, failed_at=dead_letter_of(job).failed_at.replace(hour=13))
    operator.put_upload(copies=2)
    operator.put(Queue.ANNOUNCE, "nonsense", copies=2)
    assert [(dead_letter.queue, len(dead_letter.copies)) for dead_letter in operator.dead_letters()] == [
        (Queue.INTAKE, 2),
        (Queue.FAILED_CHUNKS, 3),
        (Queue.ANNOUNCE, 2),
    ]


def test_filters_narrow_what_is_found(operator):
    one, two = operator.ended_job(), operator.ended_job()
    operator.put_chunk(one, 0)
    operator.put_chunk(two, 0, code="worker_died")
    operator.put_upload()
    operator.put(Queue.ANNOUNCE, "nonsense")
    assert reasons(operator, queues=(Queue.ANNOUNCE,)) == [DeadLetterReason.MALFORMED]
    assert [dead_letter.job for dead_letter in operator.dead_letters(job=two.job_id)] == [two]
    assert [dead_letter.job for dead_letter in operator.dead_letters(reason=DeadLetterReason.CRASH)] == [two]
    assert reasons(operator, tenant=one.tenant, queues=(Queue.FAILED_CHUNKS,)) == [
        DeadLetterReason.POISON,
        DeadLetterReason.CRASH,
    ]
    assert reasons(operator, tenant="SOMEBODYELSE") == []


def test_a_limit_tells_whether_there_are_more(operator):
    job = operator.ended_job()
    for chunk in range(3):
        operator.put_chunk(job, chunk)
    for limit, complete in ((2, False), (3, True), (4, True)):
        found = operator.look(limit=limit)
        assert (len(found.dead_letters), found.complete) == (min(limit, 3), complete)


def test_a_dead_letter_is_called_by_its_id_or_a_beginning_of_it_or_its_dead_letter_id(operator):
    job = operator.ended_job()
    dead_letter = operator.put_chunk(job, 5)
    operator.put_chunk(job, 6)
    (found,) = operator.dead_letters(ids=(dead_letter.dead_letter_id,))
    assert found.chunk == dead_letter
    name = short_ids(operator.dead_letters())[found.oldest.message_id]
    assert len(name) == 8
    for ids in ((name,), (found.oldest.message_id, dead_letter.dead_letter_id)):
        assert [each.chunk.chunk for each in operator.dead_letters(ids=ids)] == [5]


def test_an_id_that_fits_none_or_several_says_so(operator, monkeypatch):
    job = operator.ended_job()
    for chunk in range(2):
        operator.put_chunk(job, chunk)
    with pytest.raises(DeadLetterNotFound, match="'nobody'"):
        operator.look(ids=("nobody",)).check()
    with pytest.raises(InvalidRequest, match="too short"):
        operator.look(ids=("",))
    monkeypatch.setattr("backhaul.operations.dead_letters.DeadLetter.is_called", lambda *_: True)
    with pytest.raises(InvalidRequest, match="fits 2 dead letters"):
        operator.look(ids=("abcd",))


def test_looking_changes_nothing_and_lets_go_at_once(operator):
    operator.put_chunk(operator.ended_job(), copies=2)
    operator.put(Queue.ANNOUNCE, "nonsense")
    assert len(operator.dead_letters()) == 2
    assert operator.attributes("FailedChunksUrl") == (2, 0)
    assert operator.attributes("AnnounceDeadLettersUrl") == (1, 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_was_received_is_let_go_after_an_error_too(operator, monkeypatch, error):
    operator.put_chunk(operator.ended_job())

    def broken(*_):
        raise error

    monkeypatch.setattr("backhaul.operations.dead_letters.classify", broken)
    with pytest.raises(error):
        operator.look()
    assert operator.attributes("FailedChunksUrl") == (1, 0)


def test_ctrl_c_stops_every_search_at_once(operator, monkeypatch):
    endless = count()

    def receive(self, _seconds):
        message = queues.Message(f"m{next(endless)}", "receipt", "nonsense", operator.deployment.clock.now(), 1)
        return (message,)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(queues.MessageQueue, "receive", receive)
    monkeypatch.setattr(queues.MessageQueue, "release", lambda *_: None)
    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        operator.look()


def test_aws_failing_while_letting_go_hides_no_other_error(operator, monkeypatch):
    operator.put_chunk(operator.ended_job())
    refusal = ClientError({"Error": {"Code": "Throttling"}}, "ChangeMessageVisibilityBatch")

    def refuse(*_):
        raise refusal

    monkeypatch.setattr(queues.MessageQueue, "hide", refuse)
    assert len(operator.dead_letters()) == 1


def test_a_right_to_single_calls_is_enough_where_batches_need_their_own(operator, monkeypatch):
    real = BaseClient._make_api_call

    def picky(self, operation, arguments):
        if operation.endswith("Batch") and operation != "SendMessageBatch":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", picky)
    operator.put_upload(copies=2)
    operator.look()
    assert operator.attributes("IntakeDeadLettersUrl") == (2, 0)
    operator.redrive()
    assert (operator.left("IntakeDeadLettersUrl"), operator.left("IntakeQueueUrl")) == (0, 1)
    queue = operator.operations.dead_letters()[Queue.INTAKE]
    gone = queues.Message("gone", "no receipt of anything", "", operator.deployment.clock.now(), 1)
    assert queue.hide([gone], 9) == {"gone"}


def test_a_right_that_is_missing_altogether_is_an_error(operator, monkeypatch):
    operator.put_upload()
    real = BaseClient._make_api_call

    def denied(self, operation, arguments):
        if "Visibility" in operation:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return real(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", denied)
    with pytest.raises(ClientError, match="ChangeMessageVisibility operation"):
        operator.redrive()


def test_what_is_looked_at_for_long_stays_hidden(operator):
    for chunk in range(2):
        operator.put_chunk(operator.ended_job(), chunk)
    with operator.held() as held:
        messages = list(held.receive(Queue.FAILED_CHUNKS))
        operator.time_passes()
        operator.deployment.clock.advance(seconds=149)
        held.renew()
        assert operator.attributes("FailedChunksUrl") == (2, 0)
        operator.deployment.clock.advance(seconds=1)
        held.renew()
        assert operator.attributes("FailedChunksUrl") == (0, 2)
        assert held.claim(Queue.FAILED_CHUNKS, messages)


# --- redriving


def test_an_upload_goes_back_to_the_intake_queue_once_however_many_copies_there_are(operator):
    job = operator.put_upload(copies=3)
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.REDRIVEN
    assert (operator.left("IntakeDeadLettersUrl"), operator.left("IntakeQueueUrl")) == (0, 1)
    (message,) = operator.operations.intake().receive(30)
    assert [upload.job for upload in uploads_in(message.body)] == [job]


def test_failed_chunks_of_a_job_start_one_run(operator):
    one, two = operator.ended_job(), operator.ended_job()
    for job, chunk in ((one, 0), (two, 0), (one, 1)):
        operator.put_chunk(job, chunk, copies=2)
    settled = operator.redrive()
    assert [len(each.group.dead_letters) for each in settled] == [2, 1]
    assert operator.runs_started == [one, two]
    assert operator.left("FailedChunksUrl") == 0


def test_so_many_dead_letters_of_a_job_that_they_take_several_acts_start_one_run(operator, monkeypatch):
    monkeypatch.setattr("backhaul.operations.redriving.MAX_DEAD_LETTERS", 2)
    job = operator.ended_job()
    for chunk in (0, 1, 17, 18, 19):
        operator.put_chunk(job, chunk)
    settled = operator.redrive()
    assert [each.result.status for each in settled] == [ActStatus.REDRIVEN] * 3
    assert "which has not ended" in settled[-1].result.said
    assert operator.runs_started == [job]
    assert operator.left("FailedChunksUrl") == 0


def test_a_dead_letter_of_the_run_that_is_at_work_stays(operator):
    job = operator.ended_job()
    operator.redrive_job(job)
    operator.put_chunk(job, run=2)
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert "is RUNNING" in settled.result.said
    assert operator.attributes("FailedChunksUrl") == (1, 0)


def test_a_job_of_which_nothing_is_missing_has_resolved_its_dead_letters(operator, monkeypatch):
    job = operator.ended_job()
    operator.put_chunk(job, 0)
    real = operator.redrive_job

    def mended_meanwhile(ref, *, only_failed):
        monkeypatch.setattr(operator, "redrive_job", real)
        operator.commit(job, 0)
        return Redriven(operator.deployment.job(ref))

    monkeypatch.setattr(operator, "redrive_job", mended_meanwhile)
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.RESOLVED
    assert operator.left("FailedChunksUrl") == 0


def test_a_chunk_that_is_missing_keeps_its_dead_letter_though_the_job_finds_nothing_to_run(operator, monkeypatch):
    operator.put_chunk(operator.ended_job(), 0)
    asked = []

    def nothing(ref, *, only_failed):
        asked.append(only_failed)
        return Redriven(operator.deployment.job(ref))

    monkeypatch.setattr(operator, "redrive_job", nothing)
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert asked == [True, False]
    assert operator.attributes("FailedChunksUrl") == (1, 0)


def test_what_was_never_tried_is_redriven_too_and_before_what_was(operator, monkeypatch):
    monkeypatch.setattr("backhaul.operations.redriving.MAX_DEAD_LETTERS", 1)
    job = operator.ended_job()
    asked = []
    real = operator.redrive_job

    def noted(ref, *, only_failed):
        asked.append(only_failed)
        return real(ref, only_failed=only_failed)

    monkeypatch.setattr(operator, "redrive_job", noted)
    operator.put_chunk(job, 0)
    operator.put_chunk(job, 1, code="worker_died", tries=())
    assert [each.result.status for each in operator.redrive()] == [ActStatus.REDRIVEN] * 2
    assert asked[0] is False
    assert operator.runs_started == [job]


class Picky(Processor):
    """Refuse a line, until it is mended."""

    name = "picky"
    mended = False

    def process(self, record, ctx):
        if record == "bad" and not type(self).mended:
            raise ValueError("bad line")
        return record.upper()


def test_a_poisoned_job_is_whole_once_its_processor_is_mended_and_its_dead_letters_are_redriven(operator, monkeypatch):
    deployment = operator.deployment.with_processors(Picky)
    monkeypatch.setattr(operator, "deployment", deployment)
    task = deployment.start("picky", b"good\nbad\nfine\n", options={"chunk_bytes": 5})
    assert deployment.finish(task).state is JobState.PARTIAL
    (dead_letter,) = operator.dead_letters()
    assert dead_letter.reason is DeadLetterReason.POISON
    assert dead_letter.chunk.tries
    monkeypatch.setattr(Picky, "mended", True)
    (settled,) = operator.redrive()
    assert settled.result == ActResult(ActStatus.REDRIVEN, "Run 2 of the job processes the missing chunks.")
    assert operator.dead_letters() == ()
    ended = deployment.finish(RunTask(task.job, 2))
    assert ended.state is JobState.SUCCEEDED
    assert deployment.read(ended.output).split() == [b"GOOD", b"BAD", b"FINE"]


def test_resolved_dead_letters_are_deleted_and_start_nothing(operator):
    job = operator.ended_job()
    operator.put_chunk(job, 0)
    operator.commit(job, 0)
    upload = operator.put_upload()
    operator.deployment.receive(operator.dead_letters(queues=(Queue.INTAKE,))[0].oldest.body)
    assert [each.result.status for each in operator.redrive()] == [ActStatus.RESOLVED, ActStatus.RESOLVED]
    assert operator.runs_started == []
    assert (
        operator.left("FailedChunksUrl") + operator.left("IntakeDeadLettersUrl") + operator.left("IntakeQueueUrl") == 0
    )
    assert [record.job for record in operator.operations.store.audit.newest(upload)] == [f"AIDAEXAMPLE/{upload.job_id}"]


def test_what_would_only_come_back_stays_and_leaves_no_trace(operator):
    operator.put(Queue.INTAKE, "nonsense")
    operator.put_chunk(NOBODY)
    assert [each.result.status for each in operator.redrive()] == [ActStatus.KEPT, ActStatus.KEPT]
    assert (operator.left("IntakeDeadLettersUrl"), operator.left("FailedChunksUrl")) == (1, 1)
    assert list(operator.operations.store.audit.newest()) == []


def heard(operator, monkeypatch, refuse=False):
    """Let the bus remember what it is told."""
    events = []

    def publish(_self, batch):
        events.extend(event.detail.event_id for event in batch)
        return list(batch) if refuse else []

    monkeypatch.setattr("backhaul.store.bus.EventBus.publish", publish)
    return events


def test_changes_that_were_not_announced_are_read_from_the_stream_again(operator, monkeypatch):
    events = heard(operator, monkeypatch)
    job = operator.deployment.run("text-stats", b"one\n")
    operator.deployment.submit("text-stats", b"one\n")
    everything = [record["dynamodb"] for record in operator.deployment.stream()]
    operator.put_batch(len(everything))
    operator.put_upload()  # the stream goes on
    (settled,) = operator.redrive(queues=(Queue.ANNOUNCE,))
    assert settled.result.status is ActStatus.REDRIVEN
    assert {event.partition(".")[0] for event in events} == {job.ref.job_id}
    assert len(set(events)) == 3  # queued, started, succeeded
    assert operator.left("AnnounceDeadLettersUrl") == 0


def test_a_batch_begins_and_ends_where_the_dead_letter_says(operator, monkeypatch):
    events = heard(operator, monkeypatch)
    first, second = operator.ended_job(), operator.ended_job()
    operator.put_batch(2)
    third = operator.ended_job()
    operator.redrive()
    assert {event.partition(".")[0] for event in events} == {second.job_id}
    assert first.job_id != third.job_id


def test_a_bus_that_refuses_leaves_the_dead_letter(operator, monkeypatch):
    heard(operator, monkeypatch, refuse=True)
    operator.ended_job()
    operator.put_batch()
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert "refused" in settled.result.said
    assert operator.attributes("AnnounceDeadLettersUrl") == (1, 0)


@pytest.mark.parametrize("item", [{"moves": {"N": "1"}}, {"moves": {"N": "1"}, "tenant": {"S": "T"}}])
def test_a_change_that_nobody_can_read_keeps_its_dead_letter_and_keeps_no_other_from_its_new_home(
    operator, monkeypatch, item
):
    events = heard(operator, monkeypatch)
    boto3.client("dynamodb").put_item(TableName="jobs", Item={"pk": {"S": "T#T#J#x"}, "sk": {"S": "JOB"}} | item)
    operator.put_batch(1)
    operator.failed_job()
    operator.put_batch(1)
    assert sorted(each.result.status for each in operator.redrive()) == [ActStatus.KEPT, ActStatus.REDRIVEN]
    assert len(events) == 1
    assert operator.attributes("AnnounceDeadLettersUrl") == (1, 0)


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
def test_a_stream_that_has_forgotten_says_so_plainly_and_leaves_the_dead_letter(operator, monkeypatch, answers):
    assert ChangeStream(Stream(*answers)).read(STRETCH) is None
    operator.ended_job()
    operator.put_batch()
    monkeypatch.setattr(ChangeStream, "read", lambda *_: None)
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert "24 hours" in settled.result.said
    assert operator.attributes("AnnounceDeadLettersUrl") == (1, 0)


def test_a_stream_is_read_over_empty_answers_to_the_last_record_and_no_further():
    stream = Stream(([], "i"), (["5", "7"], "i"), ([], "i"), (["9", "10", "11"], "i"))
    assert [image["SequenceNumber"] for image in ChangeStream(stream).read(STRETCH)] == ["5", "7", "9", "10"]


def test_a_stream_that_is_silent_is_not_waited_for_for_ever():
    with pytest.raises(StoreUnavailable, match="gave nothing"):
        ChangeStream(Stream((["5"], "i"), *[([], "i")] * 60)).read(STRETCH)


def test_an_error_about_one_dead_letter_keeps_no_other_from_its_new_home(operator, monkeypatch):
    one, two = operator.ended_job(), operator.ended_job()
    operator.put_chunk(one)
    operator.put_chunk(two)
    real = operator.redrive_job

    def sometimes(ref, *, only_failed):
        if ref == one:
            raise MalformedMessage("The plan is gone.")
        return real(ref, only_failed=only_failed)

    monkeypatch.setattr(operator, "redrive_job", sometimes)
    assert [each.result.status for each in operator.redrive()] == [ActStatus.KEPT, ActStatus.REDRIVEN]
    (dead_letter,) = operator.dead_letters()
    assert dead_letter.job == one
    assert [record.outcome for record in operator.operations.store.audit.newest(one)] == ["kept: The plan is gone."]


def test_a_dead_letter_that_another_command_took_meanwhile_is_left_to_it(operator, monkeypatch):
    operator.put_chunk(operator.ended_job())
    monkeypatch.setattr(queues.MessageQueue, "hide", lambda _self, messages, _: {each.message_id for each in messages})
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert "Another command" in settled.result.said
    assert operator.runs_started == []


def test_a_dead_letter_that_sqs_does_not_delete_is_told_of(operator, monkeypatch):
    operator.put_upload()
    monkeypatch.setattr(
        queues.MessageQueue, "delete", lambda _self, messages: frozenset(each.message_id for each in messages)
    )
    (settled,) = operator.redrive()
    assert settled.result.status is ActStatus.KEPT
    assert "did not delete" in settled.result.said


def test_a_rate_spreads_acts_over_time_and_keeps_the_dead_letters_hidden(operator):
    job = operator.ended_job()
    for _ in range(4):
        operator.put_upload()
    operator.put_chunk(job)
    operator.redrive(rate=0.05)
    assert sum(operator.slept) == pytest.approx(4 * 20)
    assert max(operator.slept) <= 10


def test_no_rate_is_no_wait(operator):
    for _ in range(3):
        operator.put_upload()
    operator.redrive()
    assert operator.slept == []


# --- discarding, and the audit trail


def test_a_discard_keeps_the_body_in_the_audit_trail_unless_it_is_large(operator):
    operator.put(Queue.INTAKE, "small")
    operator.put(Queue.INTAKE, "é" * (acting.MAX_BODY // 2))
    assert [each.result.status for each in operator.act(Discard())] == [ActStatus.DISCARDED] * 2
    assert operator.left("IntakeDeadLettersUrl") == 0
    records = list(operator.operations.store.audit.newest())
    assert {record.body for record in records} == {"small", None}
    assert {record.action for record in records} == {"dlq discard"}


def test_the_audit_trail_says_who_did_what_to_which_dead_letter_and_why(operator):
    job = operator.ended_job()
    dead_letter = operator.put_chunk(job, 4, copies=2)
    (found,) = operator.dead_letters()
    operator.redrive()
    (record,) = operator.operations.store.audit.newest()
    assert (record.action, record.why) == ("dlq redrive", "tests")
    assert record.who.startswith("arn:aws:iam::")
    assert record.job == f"{job.tenant}/{job.job_id}"
    assert record.what["queue"] == Queue.FAILED_CHUNKS
    (named,) = record.what["dead_letters"]
    assert set(named["message_ids"]) == {copy.message_id for copy in found.copies}
    assert (named["dead_letter_id"], named["reason"], named["copies"]) == (
        dead_letter.dead_letter_id,
        DeadLetterReason.POISON,
        2,
    )
    assert record.outcome == "redriven: Run 2 of the job processes the missing chunks."
    assert record.body is None
    assert list(operator.operations.store.audit.newest(job)) == [record]


def test_an_audit_record_is_no_job_in_any_list(operator):
    job = operator.put_upload()
    operator.redrive()
    assert [
        each.ref for each in operator.operations.store.jobs.list(job.tenant, state=None, after=None, limit=9).jobs
    ] == [job]
    assert operator.deployment.announce(operator.deployment.changes()) is None


def test_looking_writes_nothing_down(operator):
    operator.put_upload()
    operator.look()
    assert list(operator.operations.store.audit.newest()) == []


# --- killed at any moment


def upload(operator):
    job = operator.put_upload(copies=2)

    def check(_):
        for message in operator.operations.intake().receive(1):
            operator.deployment.receive(message.body)
            operator.operations.intake().delete([message])
        assert operator.deployment.job(job).state is JobState.RUNNING
        assert operator.deployment.job(job).run == 1
        operator.operations.store.slots.drop(job)

    return Queue.INTAKE, operator.redriver(), check


def chunks(operator):
    job = operator.failed_job()
    operator.put_chunk(job, 0, copies=2)
    operator.put_chunk(job, 1)

    def check(_):
        assert operator.deployment.job(job).run == 2
        operator.operations.store.slots.drop(job)  # or the rounds of this test would soon fill all

    return Queue.FAILED_CHUNKS, operator.redriver(), check


def batch(operator):
    job = operator.failed_job()
    operator.put_batch(1)

    def check(events):
        assert {event.partition(".")[0] for event in events} == {job.job_id}
        assert len(set(events)) == 1

    return Queue.ANNOUNCE, operator.redriver(), check


def thrown_away(operator):
    body = f"nonsense {msgspec.json.encode(operator.ended_job()).decode()}"
    operator.put(Queue.INTAKE, body)

    def check(_):
        assert body in {record.body for record in operator.operations.store.audit.newest()}

    return Queue.INTAKE, Discard(), check


DEAD = {queue: queue.kind.output for queue in Queue}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", [upload, chunks, batch, thrown_away])
def test_a_command_that_is_killed_at_any_call_loses_nothing_and_its_next_run_doubles_nothing(
    operator, monkeypatch, scene, after
):
    events = heard(operator, monkeypatch)
    audit = operator.operations.store.audit
    for call in count():
        events.clear()
        written = len(list(audit.newest()))
        queue, act, check = scene(operator)
        with killed_at(call, after=after, monkeypatch=monkeypatch) as was_killed:
            operator.act(act, queues=(queue,))
        if was_killed():
            operator.time_passes()
            left = operator.left(DEAD[queue])
            assert left or len(list(audit.newest())) > written
            operator.act(act, queues=(queue,))
        assert operator.left(DEAD[queue]) == 0
        check(events)
        assert len(list(audit.newest())) > written
        if not was_killed():
            break
    assert call > 6


@pytest.mark.parametrize("scene", [upload, chunks, batch, thrown_away])
def test_ctrl_c_before_the_delete_lets_go_of_the_dead_letters_and_the_next_run_finishes(operator, monkeypatch, scene):
    heard(operator, monkeypatch)
    real = queues.MessageQueue.delete

    def interrupted(*_):
        raise KeyboardInterrupt

    queue, act, _ = scene(operator)
    monkeypatch.setattr(queues.MessageQueue, "delete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        operator.act(act, queues=(queue,))
    assert operator.attributes(DEAD[queue])[1] == 0
    monkeypatch.setattr(queues.MessageQueue, "delete", real)
    operator.act(act, queues=(queue,))
    assert operator.left(DEAD[queue]) == 0
