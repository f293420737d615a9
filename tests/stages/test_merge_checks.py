"""A merge joins what the plan and the shards' records agree on, and nothing else."""

from dataclasses import replace

import boto3
import pytest

from backhaul.model import keys
from backhaul.model.job import Cause, JobState
from backhaul.model.progress import FailedChunk, OpenChunk
from backhaul.model.shard import Shard
from backhaul.reading import Chunk
from backhaul.store import OutputWriter
from tests.shout import Shout

DATA = b"".join(b"line %04d\n" % number for number in range(100))
BAD = Cause("processor_error", "It failed.")


@pytest.fixture
def shouting(deployment):
    return deployment.with_processors(Shout)


def worked(deployment, processor="shout"):
    """A run whose workers are done: 100 chunks in 15 shards, seven in each of the first."""
    task = deployment.start(processor, DATA, options={"chunk_bytes": 10})
    deployment.plan(task)
    for shard in deployment.shard_tasks(task):
        deployment.process(shard)
    return task


def failed(deployment, task, said):
    """The job, which has failed and says why and what to do, and of which nothing was joined."""
    job = deployment.merge(task)
    assert (job.state, job.cause.code, job.output) == (JobState.FAILED, "unfit_record", None)
    assert said in job.cause.message
    assert "Submit the file again" in job.cause.message
    assert deployment.receipt(job)["state"] == "FAILED"
    listed = deployment.s3.list_objects_v2(Bucket="data", Prefix=f"{keys.job_prefix(job.ref)}output/")
    assert listed["KeyCount"] == 0
    assert "Uploads" not in deployment.s3.list_multipart_uploads(Bucket="data")
    return job


def lengths(record, *wanted):
    part = record.parts[0]
    return {"parts": (replace(part, lengths=wanted), *record.parts[1:])}


def with_first(record, index, more=0):
    (_, length), *rest = record.parts[0].lengths
    return lengths(record, (index, length + more), *rest)


UNFIT = {
    "another shard's chunk": (lambda record: with_first(record, 0), "it names chunk 0"),
    "no chunk at all": (lambda record: with_first(record, 4711), "it names chunk 4711"),
    "a chunk twice in a part": (
        lambda record: lengths(record, (7, 4), (7, 6), *record.parts[0].lengths[1:]),
        "chunk 7 stands twice in part 0",
    ),
    "a part twice": (lambda record: {"parts": record.parts * 2}, "part 0 stands in it twice"),
    "a chunk done and failed": (lambda _: {"failed": (FailedChunk(8, 80, 90, BAD),)}, "chunk 8 stands in it twice"),
    "a failed chunk of other bytes": (
        lambda record: lengths(record, *record.parts[0].lengths[1:]) | {"failed": (FailedChunk(7, 70, 99, BAD),)},
        "chunk 7 has other bytes",
    ),
    "an open chunk before its beginning": (lambda _: {"open": OpenChunk(13, 5)}, "chunk 13 is at a byte before"),
    "an open chunk of another shard": (lambda _: {"open": OpenChunk(50, 505)}, "it names chunk 50"),
    "another sum of bytes": (lambda record: {"bytes_done": record.bytes_done + 1}, "the bytes that it counts"),
    "too short a result": (lambda record: with_first(record, 7, -3), "have 67 bytes, and 70 were stored"),
    "too long a result": (lambda record: with_first(record, 7, 3), "have 73 bytes, and 70 were stored"),
    "a negative result": (lambda record: lengths(record, (7, -10), *record.parts[0].lengths[1:]), "less than no bytes"),
}


@pytest.mark.parametrize(("change", "said"), UNFIT.values(), ids=UNFIT)
def test_a_record_that_does_not_fit_the_plan_fails_the_job_and_names_the_shard(shouting, change, said):
    task = worked(shouting)
    record = shouting.store.shards.get(task.job, 1)
    shouting.store.shards.commit(task.job, replace(record, **change(record)))
    job = failed(shouting, task, said)
    assert job.cause.message.startswith("The record of shard 1 cannot be true")


def test_a_record_of_a_shard_that_was_never_planned_fails_the_job(shouting):
    task = worked(shouting)
    shouting.store.shards.claim(task.job, Shard(99, (Chunk(100, 1000, 1010),)), task.run)
    failed(shouting, task, "The record of shard 99 cannot be true: the plan has no such shard")


def test_two_records_of_one_shard_fail_the_job(shouting):
    task = worked(shouting)
    client = boto3.client("dynamodb")
    key = {"pk": {"S": keys.partition(task.job)}, "sk": {"S": keys.shard_sort_key(1)}}
    item = client.get_item(TableName="jobs", Key=key)["Item"]
    client.put_item(TableName="jobs", Item=item | {"sk": {"S": keys.shard_sort_key(2)}})
    failed(shouting, task, "The record of shard 1 cannot be true: there are two of it")


@pytest.mark.parametrize("processor", ["shout", "text-stats"])
@pytest.mark.parametrize("body", [b"X" * 70, b"X" * 7, b"X" * 700, None], ids=["other", "short", "long", "gone"])
def test_a_result_that_is_not_the_one_that_was_stored_fails_the_job(shouting, processor, body):
    task = worked(shouting, processor)
    record = shouting.store.shards.get(task.job, 3)
    key = keys.result_key(task.job, 3, record.parts[0].attempt, record.parts[0].number)
    if body is None:
        shouting.s3.delete_object(Bucket="data", Key=key)
    else:
        shouting.s3.put_object(Bucket="data", Key=key, Body=body)
    job = failed(shouting, task, f"the object {key} is gone, or is not the one that was stored")
    assert job.cause.message.startswith("The record of shard 3 ")


def test_results_that_an_older_version_stored_without_an_entity_tag_are_joined(shouting):
    task = worked(shouting)
    for record in list(shouting.store.shards.all(task.job)):
        parts = tuple(replace(part, etag="", length=0) for part in record.parts)
        shouting.store.shards.commit(task.job, replace(record, parts=parts))
    job = shouting.merge(task)
    assert (job.state, shouting.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())


def test_a_copy_inside_s3_is_of_the_object_that_was_stored(deployment):
    """moto copies whatever the condition says; that S3 is asked for it is what can be seen here."""
    asked = []
    objects = deployment.store.objects
    objects.client.meta.events.register(
        "before-call.s3.UploadPartCopy", lambda params, **_: asked.append(params["headers"])
    )
    etag = objects.put_result("source", b"x" * 9 * 1024**2)
    with OutputWriter(objects, "target", "text/plain") as output:
        output.append("source", 0, 9 * 1024**2, etag)
        output.close()
    assert [headers["x-amz-copy-source-if-match"] for headers in asked] == [etag]
