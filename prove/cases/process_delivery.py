"""Real messages: delivered again, to two at once, and too often to be handled."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from prove.cases.process_workers import item_of
from prove.deployed import eventually
from prove.registry import Trial
from prove.site import Job, Site, pause, real, settle
from prove.work import RECORD_BYTES, lines

DELIVERIES = 4
_PASSES = ("pk", "sk", "state", "run", "output", "receipt", "counts", "moves", "updated_at")


@real("F6.repeated-event", "S3 tells of an upload again while its job runs, and after it has ended.")
def repeated_event(trial: Trial, site: Site) -> None:
    job = site.job(lines(trial.random, 16), "slow", {"chunk_bytes": 4 * RECORD_BYTES, "seconds": 0.1})
    job.begun(trial.random.randrange(1, 12))
    tell_again(job)
    site.deployed.ended(job.id)
    before = item_of(job)
    tell_again(job)
    intake = site.deployed.connection.outputs["IntakeQueueUrl"]
    pause(trial, 0.5, 1.5)
    eventually(lambda: waiting(site, intake), lambda number: number == 0, 30)
    after = item_of(job)
    changed = [name for name in _PASSES if before.get(name) != after.get(name)]
    trial.expect(not changed, f"a late event changed {changed}")
    trial.expect(list(site.deployed.final(job.id).runs) == [f"{job.id}-1"], "there is more than one run")
    settle(trial, job)


@real("F10.two-pollers", "One message is delivered to four dispatchers at once.")
def two_pollers(trial: Trial, site: Site) -> None:
    data = lines(trial.random, 12)
    job = site.job(data, "slow", {"chunk_bytes": 4 * RECORD_BYTES, "seconds": 0.05})
    message = {
        "messageId": "00000000-0000-4000-8000-000000000000",
        "receiptHandle": "again",
        "body": event_of(job),
        "attributes": {"SentTimestamp": "0", "ApproximateReceiveCount": "2"},
        "eventSource": "aws:sqs",
    }
    with ThreadPoolExecutor(DELIVERIES) as pool:
        answers = list(pool.map(lambda _: site.deployed.invoke("dispatch", {"Records": [message]}), range(DELIVERIES)))
    for each in answers:
        trial.expect(each["error"] is None, f"a dispatcher fails: {each}")
    settle(trial, job)
    trial.expect(list(site.deployed.final(job.id).runs) == [f"{job.id}-1"], "there is more than one run")


@real(
    "F13.dead-letter-and-back",
    "An upload's message fails until it is a dead letter; it is redriven once that is mended.",
)
def dead_letter_and_back(trial: Trial, site: Site) -> None:
    deployed, sqs = site.deployed, site.deployed.admin("sqs")
    intake = deployed.connection.outputs["IntakeQueueUrl"]
    dead = deployed.connection.outputs["IntakeDeadLettersUrl"]
    name = "VisibilityTimeout"
    usual = sqs.get_queue_attributes(QueueUrl=intake, AttributeNames=[name])["Attributes"]
    was = deployed.change("intakedispatch", Environment={"Variables": {}})["Environment"]["Variables"]
    sqs.set_queue_attributes(QueueUrl=intake, Attributes={name: "1"})
    try:
        broken = {**was, "BACKHAUL_JOBS_TABLE": "no-such-table"}
        deployed.change("intakedispatch", Environment={"Variables": broken})
        job = site.job(lines(trial.random, 12), "slow", {"chunk_bytes": 4 * RECORD_BYTES, "seconds": 0.05})
        eventually(lambda: waiting(site, dead), lambda number: number > 0, 90)
        trial.expect(deployed.client.job(job.id).state == "AWAITING_UPLOAD", "somebody else has started the job")
    finally:
        deployed.change("intakedispatch", Environment={"Variables": was})
        sqs.set_queue_attributes(QueueUrl=intake, Attributes=usual)
    (code, said) = deployed.command("dlq", "redrive", "--queue", "intake", "--why", "the table is back")
    trial.expect(code == 0, f"`backhaul dlq redrive` ends with {code}: {said}")
    trial.expect(waiting(site, dead) == 0, "the dead letter is still there")
    settle(trial, job)


def waiting(site: Site, queue: str) -> int:
    """Return how many messages a queue holds, those in flight included."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = site.deployed.admin("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def tell_again(job: Job, times: int = 2) -> None:
    """Let S3 tell of the job's upload again."""
    queue = job.site.deployed.connection.outputs["IntakeQueueUrl"]
    for _ in range(times):
        job.site.deployed.admin("sqs").send_message(QueueUrl=queue, MessageBody=event_of(job))


def event_of(job: Job) -> str:
    """Return the body of the message that tells of the job's upload."""
    deployed = job.site.deployed
    key = f"t/{deployed.tenant}/j/{job.id}/input/data"
    bucket = deployed.connection.outputs["DataBucketName"]
    head = deployed.admin("s3").head_object(Bucket=bucket, Key=key)
    found: dict[str, Any] = {
        "key": key,
        "size": head["ContentLength"],
        "versionId": head["VersionId"],
        "sequencer": "0",
    }
    record = {"eventName": "ObjectCreated:Post", "s3": {"bucket": {"name": bucket}, "object": found}}
    return json.dumps({"Records": [record]})
