"""`backhaul dlq` as its user runs it: the command line, with the rights of the local cloud's user `operator`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from backhaul.cli.exits import Exit
from backhaul.local.users import OPERATOR
from backhaul.model import keys
from backhaul.model.clock import SystemClock
from backhaul.model.job import JobRef, JobState
from backhaul.operations.contents import Queue
from backhaul.store import AuditLog
from scripts.subscriber import subscription
from tests.e2e.support import PROJECT, admin_client, eventually, output_of, run_job

QUEUES = {str(queue): queue.kind.output for queue in Queue}
LINE_BYTES = 16


class Ran(NamedTuple):
    """How a command ended, and what it told programs and people."""

    code: int
    value: Any
    said: str


class OperatorSeat:
    """An operator's command line, and what root sees of it in the queues and in the audit trail."""

    def __init__(self, cloud, cloud_home) -> None:
        self.outputs = cloud.outputs
        self.sqs = admin_client(cloud, "sqs")
        access = cloud.access()
        identity = access.session.client("sts", **access.options).get_caller_identity()
        self.tenant = identity["UserId"].partition(":")[0]
        self._home = str(cloud_home)
        self._audit = AuditLog(admin_client(cloud, "dynamodb"), cloud.outputs["JobsTableName"], SystemClock())

    def dlq(self, *arguments: str) -> Ran:
        """Run `backhaul dlq … --json` in a process of its own."""
        run = [sys.executable, "-c", "import sys; from backhaul.cli import main; sys.exit(main())", "dlq", *arguments]
        own = {"PATH": os.defpath, "HOME": self._home, "BACKHAUL_HOME": self._home}
        done = subprocess.run(
            [*run, "--json"], cwd=PROJECT, env=own, capture_output=True, text=True, timeout=60, check=False
        )
        return Ran(done.returncode, json.loads(done.stdout or "null"), done.stderr)

    def put(self, queue: str, body: str) -> str:
        """Put a dead letter into a queue; returns its ID."""
        return self.sqs.send_message(QueueUrl=self.outputs[QUEUES[queue]], MessageBody=body)["MessageId"]

    def counts(self) -> dict[str, int]:
        """Return how many dead letters each queue holds, hidden ones included."""
        return {queue: sum(self.waiting(queue)) for queue in QUEUES}

    def waiting(self, queue: str) -> tuple[int, int]:
        """Return how many dead letters of a queue can be seen, and how many are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = self.outputs[QUEUES[queue]]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def audited(self, job_id: str | None = None) -> list[Any]:
        """Return the audit records of the stack, or of a job; the newest first."""
        return list(self._audit.newest(JobRef(self.tenant, job_id) if job_id else None))


@pytest.fixture(scope="module")
def operator(cloud, cloud_home) -> OperatorSeat:
    return OperatorSeat(cloud, cloud_home)


@pytest.fixture
def let_in(cloud) -> Iterator[Callable[[], None]]:
    """Keep `dispatch` from the intake queue until this is called, or the test ends."""
    functions, sqs, url = admin_client(cloud, "lambda"), admin_client(cloud, "sqs"), cloud.outputs["IntakeQueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    (mapping,) = functions.list_event_source_mappings(EventSourceArn=arn)["EventSourceMappings"]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    yield lambda: functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)


@pytest.fixture
def readable_stream(cloud) -> Iterator[None]:
    """Let the operator read streams by a statement that names no resource.

    The operators' policy names the stream, as AWS's documents do. The emulator's IAM takes no request to DynamoDB
    Streams to be about a resource, so that only a statement on all of them fits.
    """
    iam = admin_client(cloud, "iam")
    actions = ["dynamodb:GetShardIterator", "dynamodb:GetRecords"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName=OPERATOR, PolicyName="streams", PolicyDocument=policy)
    yield
    iam.delete_user_policy(UserName=OPERATOR, PolicyName="streams")


def test_poisoned_chunks_are_listed_and_shown_and_one_run_does_them_once_they_are_mended(
    cloud, client, operator, tmp_path
):
    path, mended = tmp_path / "input", tmp_path / "mended"
    words = ["fine", "poison:raise", "fine", "poison:raise", "fine"]
    path.write_text("".join(f"{word:<{LINE_BYTES - 1}}\n" for word in words))
    options = {"chunk_bytes": LINE_BYTES, "mended": str(mended)}
    job, _ = run_job(client, path, "poison", options, ends=JobState.PARTIAL)
    ids = [f"{job.job_id}.r1.c{chunk}" for chunk in (1, 3)]

    listed = operator.dlq("list", "--job", job.job_id)
    assert (listed.code, listed.value["complete"]) == (Exit.SUCCEEDED, True), listed.said
    dead_letters = {each["chunk"]["dead_letter_id"]: each for each in listed.value["dead_letters"]}
    assert sorted(dead_letters) == ids
    told = {(each["queue"], each["reason"], each["tenant"], each["job_state"]) for each in dead_letters.values()}
    assert told == {("failed-chunks", "poison", operator.tenant, "PARTIAL")}

    shown = operator.dlq("show", ids[0])
    body = json.loads(shown.value["body"])
    assert (shown.code, shown.value["id"]) == (Exit.SUCCEEDED, dead_letters[ids[0]]["id"])
    assert (body["chunk"], body["start"], body["end"]) == (1, LINE_BYTES, 2 * LINE_BYTES)
    assert (body["cause"]["code"], body["tries"][0]["code"]) == ("processor_error", "processor_error")

    mended.touch()
    before = operator.counts(), operator.audited(), client.job(job.job_id)
    foreseen = operator.dlq("redrive", "--job", job.job_id, "--dry-run")
    assert (foreseen.code, foreseen.value["dry_run"]) == (Exit.SUCCEEDED, True), foreseen.said
    assert fates(foreseen) == dict.fromkeys(ids, "redriven")
    assert (operator.counts(), operator.audited(), client.job(job.job_id)) == before
    visible, hidden = operator.waiting("failed-chunks")
    assert (visible >= len(ids), hidden) == (True, 0)

    redriven = operator.dlq("redrive", "--job", job.job_id, "--why", "the processor is mended")
    assert (redriven.code, fates(redriven)) == (Exit.SUCCEEDED, dict.fromkeys(ids, "redriven")), redriven.said
    ended = eventually(lambda: client.job(job.job_id), lambda job: job.state.is_terminal and job.run == 2)
    assert ended.state is JobState.SUCCEEDED
    assert output_of(client, ended) == path.read_bytes().upper()
    assert planned(cloud, operator, job.job_id, run=2) == {1, 3}
    assert operator.waiting("failed-chunks") == (visible - len(ids), 0)
    (record,) = operator.audited(job.job_id)
    assert (record.action, record.why) == ("dlq redrive", "the processor is mended")
    assert record.outcome == "redriven: Run 2 of the job processes the missing chunks."


def test_what_nobody_understands_stays_when_redriven_and_leaves_its_body_when_discarded(operator):
    before, others = operator.audited(), operator.counts()
    dead_letter = operator.put("intake", "an operator understands it no better")
    redriven = operator.dlq("redrive", dead_letter, "--why", "try it")
    assert (redriven.code, fates(redriven)) == (Exit.PARTIAL, {dead_letter: "kept"})
    assert operator.audited() == before

    aimless = operator.dlq("discard", "--why", "it is in the way")
    assert (aimless.code, aimless.value) == (Exit.USAGE, None)
    discarded = operator.dlq("discard", dead_letter, "--reason", "malformed", "--why", "a test sent it")
    assert (discarded.code, fates(discarded)) == (Exit.SUCCEEDED, {dead_letter: "discarded"}), discarded.said
    record, *earlier = operator.audited()
    assert earlier == before
    assert (record.action, record.why, record.body) == (
        "dlq discard",
        "a test sent it",
        "an operator understands it no better",
    )
    assert record.who == f"arn:aws:iam::000000000000:user/{OPERATOR}"
    assert record.what["dead_letters"][0]["message_ids"] == [dead_letter]
    assert record.outcome.startswith("discarded:")
    assert operator.counts() == others


def test_an_upload_that_dispatch_never_got_is_redriven_to_the_intake_queue(client, operator, let_in, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"one two three\n")
    job_id = client.submit(path, "text-stats").job_id
    dead_letter = operator.put("intake", taken_from_intake(operator, job_id))
    let_in()
    assert client.job(job_id).state is JobState.AWAITING_UPLOAD

    redriven = operator.dlq("redrive", "--queue", "intake", "--job", job_id, "--why", "dispatch works again")
    assert (redriven.code, fates(redriven)) == (Exit.SUCCEEDED, {dead_letter: "redriven"}), redriven.said
    ended = eventually(lambda: client.job(job_id), lambda job: job.state.is_terminal)
    assert (ended.state, ended.run) == (JobState.SUCCEEDED, 1)
    (record,) = operator.audited(job_id)
    assert record.what["dead_letters"][0]["reason"] == "stuck-upload"


def test_changes_that_were_not_announced_are_read_from_the_stream_again(
    cloud, client, operator, readable_stream, tmp_path
):
    path = tmp_path / "input"
    path.write_bytes(b"one two three\n")
    job, _ = run_job(client, path, "text-stats")
    dead_letter = operator.put("announce", json.dumps(batch_of_end(cloud, job.job_id)))
    with subscription(cloud, seconds=20) as events:
        redriven = operator.dlq("redrive", dead_letter, "--why", "the bus works again")
        assert (redriven.code, fates(redriven)) == (Exit.SUCCEEDED, {dead_letter: "redriven"}), redriven.said
        told = next(event["detail"] for event in events if event["detail"]["job_id"] == job.job_id)
    assert told["state"] == "SUCCEEDED"


def fates(ran: Ran) -> dict[str, str]:
    """Return what became of each dead letter, by the ID that its sender gave it or else by its message's."""
    return {each["dead_letter_id"] or each["id"]: each["outcome"] for each in ran.value["dead_letters"]}


def planned(cloud, operator: OperatorSeat, job_id: str, run: int) -> set[int]:
    """Return the chunks that a run of a job was to do."""
    key = keys.plan_key(JobRef(operator.tenant, job_id), run)
    body = admin_client(cloud, "s3").get_object(Bucket=operator.outputs["DataBucketName"], Key=key)["Body"].read()
    shards = [json.loads(line) for line in body.splitlines()]
    ranges = [(shard["first_chunk"], len(shard["bounds"]) - 1, shard["skip"]) for shard in shards]
    return {chunk for first, count, skip in ranges for chunk in range(first, first + count) if chunk not in skip}


def taken_from_intake(operator: OperatorSeat, job_id: str) -> str:
    """Take the event about a job's upload out of the intake queue; returns its body."""
    url = operator.outputs["IntakeQueueUrl"]
    ask = {"QueueUrl": url, "WaitTimeSeconds": 1, "MaxNumberOfMessages": 1}
    (message,) = eventually(lambda: operator.sqs.receive_message(**ask).get("Messages", []), bool, seconds=20)
    operator.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert job_id in message["Body"]
    return message["Body"]


def batch_of_end(cloud, job_id: str) -> dict[str, Any]:
    """Return Lambda's record of a batch that it gave up: the change by which this job ended."""
    streams = admin_client(cloud, "dynamodbstreams")
    (stream,) = streams.list_streams(TableName=cloud.outputs["JobsTableName"])["Streams"]
    arn = stream["StreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    begin = {"StreamArn": arn, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    position, found = streams.get_shard_iterator(**begin)["ShardIterator"], []
    while position and (answer := streams.get_records(ShardIterator=position))["Records"]:
        found += [each["dynamodb"] for each in answer["Records"]]
        position = answer.get("NextShardIterator")
    is_end = (
        change["SequenceNumber"]
        for change in found
        if change["Keys"]["sk"]["S"] == keys.JOB_SORT_KEY
        and change["Keys"]["pk"]["S"].endswith(job_id)
        and change["NewImage"]["state"]["S"] == "SUCCEEDED"
    )
    number = next(is_end)
    where = {"shardId": shard["ShardId"], "streamArn": arn, "batchSize": 1}
    return {"DDBStreamBatchInfo": where | {"startSequenceNumber": number, "endSequenceNumber": number}}
