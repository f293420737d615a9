"""Duplicates, deaths and garbage on the deployed pipeline."""

import json
from datetime import UTC, datetime

from backhaul.model import keys
from backhaul.model.job import JobRef, JobState
from scripts.subscriber import subscription
from tests.e2e.support import admin_client, ask, eventually, output_of, run_job, wait_for

MIB = 1024**2


def test_an_s3_event_delivered_three_times_makes_one_run_one_result_one_end(cloud, client, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"one two three\n" * 40_000)
    with subscription(cloud, seconds=25) as events:
        job, output = run_job(client, path, "text-stats")
        _repeat_s3_event(cloud, job, times=3)
        mine = [event["detail"] for event in events if event["detail"]["job_id"] == job.job_id]
    ended = {detail["event_id"] for detail in mine if JobState(detail["state"]).is_terminal}
    assert len(ended) == 1
    assert {detail["event_id"] for detail in mine if detail["state"] == "RUNNING"} == {f"{job.job_id}.2"}
    again = client.job(job.job_id)
    assert (again.updated_at, again.counts) == (job.updated_at, job.counts)
    assert output_of(client, again) == output
    runs = admin_client(cloud, "stepfunctions").list_executions(stateMachineArn=cloud.outputs["StateMachineArn"])
    assert [run["name"] for run in runs["executions"] if run["name"].startswith(job.job_id)] == [f"{job.job_id}-1"]


def test_events_repeated_while_the_job_runs_change_nothing(cloud, client, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"one two three\n" * 400_000)
    submitted = client.submit(path, "text-stats")
    _repeat_s3_event(cloud, submitted, times=3)
    job = wait_for(client, submitted.job_id)
    assert job.state is JobState.SUCCEEDED
    assert json.loads(output_of(client, job))["lines"] == 400_000
    assert job.counts.attempts == job.counts.shards


def test_a_malformed_message_goes_to_the_dead_letter_queue_and_harms_no_other(cloud, client, tmp_path):
    sqs = admin_client(cloud, "sqs")
    intake, dead = cloud.outputs["IntakeQueueUrl"], cloud.outputs["IntakeDeadLettersUrl"]
    usual = sqs.get_queue_attributes(QueueUrl=intake, AttributeNames=["VisibilityTimeout"])["Attributes"]
    sqs.set_queue_attributes(QueueUrl=intake, Attributes={"VisibilityTimeout": "1"})
    try:
        sqs.send_message(QueueUrl=intake, MessageBody="this is no S3 event")
        path = tmp_path / "input"
        path.write_bytes(b"fine\n")
        run_job(client, path, "text-stats")
        found = eventually(
            lambda: sqs.receive_message(QueueUrl=dead, WaitTimeSeconds=1).get("Messages", []), bool, seconds=90
        )
        assert [message["Body"] for message in found] == ["this is no S3 event"]
    finally:
        sqs.set_queue_attributes(QueueUrl=intake, Attributes=usual)


def test_the_sweep_ends_what_nobody_else_will(cloud, client, tmp_path):
    path = tmp_path / "input"
    path.write_bytes("größe 10.1.2.3 a@b.example zwölf\n".encode() * 1_200_000)
    aborted = client.submit(path, "redact", {"chunk_bytes": MIB})
    eventually(lambda: client.job(aborted.job_id), lambda job: job.state is JobState.RUNNING)
    steps = admin_client(cloud, "stepfunctions")
    arn = cloud.outputs["StateMachineArn"].replace(":stateMachine:", ":execution:")
    steps.stop_execution(executionArn=f"{arn}:{aborted.job_id}-1", error="Operator", cause="test")
    late, lost = _create_job(cloud), _create_job(cloud)
    _change(cloud, aborted.job_id, due_at=_now())
    _change(cloud, late, due_at=_now())
    _change(cloud, lost, due_at=_now(), state="MERGING", open_state="MERGING")
    assert _end_of(client, late).state is JobState.EXPIRED
    assert _end_of(client, aborted.job_id).state in (JobState.FAILED, JobState.PARTIAL)  # by what was done until then
    ended = _end_of(client, lost)
    assert (ended.state, ended.cause.code) == (JobState.FAILED, "run_lost")


def _end_of(client, job_id):
    return eventually(lambda: client.job(job_id), lambda job: job.state.is_terminal, seconds=150)


def _create_job(cloud) -> str:
    made = ask(cloud, "POST", "/jobs", json={"processor": "text-stats", "file_name": "x", "size": 1})
    return made.json()["job"]["job_id"]


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _change(cloud, job_id: str, **values: str) -> None:
    """Damage a job's record behind the pipeline's back."""
    admin_client(cloud, "dynamodb").update_item(
        TableName=cloud.outputs["JobsTableName"],
        Key={"pk": {"S": keys.partition(JobRef(_tenant(cloud), job_id))}, "sk": {"S": keys.JOB_SORT_KEY}},
        UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in values),
        ExpressionAttributeNames={f"#{name}": name for name in values},
        ExpressionAttributeValues={f":{name}": {"S": value} for name, value in values.items()},
    )


def _ref(cloud, job) -> JobRef:
    return JobRef(_tenant(cloud), job.job_id)


def _tenant(cloud) -> str:
    identity = cloud.access().session.client("sts", **cloud.access().options).get_caller_identity()
    return identity["UserId"].partition(":")[0]


def _repeat_s3_event(cloud, job, times: int) -> None:
    key = keys.input_key(_ref(cloud, job))
    bucket = cloud.outputs["DataBucketName"]
    head = admin_client(cloud, "s3").head_object(Bucket=bucket, Key=key)
    found = {"key": key, "size": head["ContentLength"], "versionId": head["VersionId"], "sequencer": "00"}
    event = {"Records": [{"eventName": "ObjectCreated:Post", "s3": {"bucket": {"name": bucket}, "object": found}}]}
    for _ in range(times):
        admin_client(cloud, "sqs").send_message(QueueUrl=cloud.outputs["IntakeQueueUrl"], MessageBody=json.dumps(event))
