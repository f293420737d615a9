"""A deployment's queues of dead letters, and dead letters to put into them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import boto3
import msgspec
import pytest
from botocore.client import BaseClient
from moto.backends import get_backend

from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.job import Cause, JobRef, JobState
from backhaul.model.progress import Part, Try
from backhaul.model.shard import Shard
from backhaul.operations.acting import Act, DeadLetterCommand, GroupResult, Pace
from backhaul.operations.connection import NO_CAP, Operations, Outputs
from backhaul.operations.contents import Queue
from backhaul.operations.dead_letters import DeadLetter, Found, Wanted, find
from backhaul.operations.holding import Held
from backhaul.operations.redriving import Redrive, redrive_of
from backhaul.stages.command import Redriven

WHO = "arn:aws:iam::123456789012:user/operator"


@dataclass
class OperatorSeat:
    """An operator's seat: the deployment, its queues, and what the operator does with them."""

    deployment: Any
    operations: Operations
    runs_started: list[JobRef] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @property
    def sqs(self) -> Any:
        return boto3.client("sqs")

    def url(self, name: str) -> str:
        return self.operations.outputs.get(name)

    def put(self, queue: Queue, body: str, copies: int = 1) -> list[str]:
        url = self.url(queue.kind.output)
        return [self.sqs.send_message(QueueUrl=url, MessageBody=body)["MessageId"] for _ in range(copies)]

    def put_chunk(self, job: JobRef, chunk: int = 0, copies: int = 1, **changes: Any) -> ChunkDeadLetter:
        dead_letter = dead_letter_of(job, chunk, **changes)
        self.put(Queue.FAILED_CHUNKS, msgspec.json.encode(dead_letter).decode(), copies)
        return dead_letter

    def put_upload(self, copies: int = 1) -> JobRef:
        """A job whose upload arrived and was never claimed."""
        job = self.deployment.submit("text-stats", b"one\n").job.ref
        upload = self.deployment.put_input(job, b"one\n")
        self.put(Queue.INTAKE, self.deployment.notification(upload), copies)
        return job

    def put_batch(self, changes: int = 2) -> dict[str, Any]:
        """A batch of the stream's last records that was not announced."""
        records = [record["dynamodb"] for record in self.deployment.stream()][-changes:]
        batch = batch_of(records[0]["SequenceNumber"], records[-1]["SequenceNumber"])
        self.put(Queue.ANNOUNCE, json.dumps(batch))
        return batch

    def ended_job(self) -> JobRef:
        """A job whose first run has ended with all chunks but the last one missing; its own dead letters are gone."""
        task = self.deployment.start("text-stats", b"one\ntwo\nsix\n", options={"chunk_bytes": 4})
        self.deployment.plan(task)
        *_, last = self.deployment.shard_tasks(task)
        self.deployment.process(last)
        assert self.deployment.merge(task).state is JobState.PARTIAL
        self._drop_dead_letters_of(task.job)
        return task.job

    def failed_job(self) -> JobRef:
        """A job whose first run has failed as a whole: made with few calls to AWS, for tests that make many."""
        task = self.deployment.start("text-stats", b"one\n")
        jobs, slots = self.operations.store.jobs, self.operations.store.slots
        jobs.move(jobs.get(task.job), JobState.FAILED, cause=Cause("run_failed", "It failed."))
        slots.drop(task.job)
        return task.job

    def _drop_dead_letters_of(self, job: JobRef) -> None:
        with self.held() as held:
            for message in held.receive(Queue.FAILED_CHUNKS):
                if job.job_id in message.body and '"tries":[]' in message.body:
                    held.delete(Queue.FAILED_CHUNKS, [message])

    def commit(self, job: JobRef, *chunks: int) -> None:
        """Let chunks of a job have a result after all."""
        shards = self.operations.store.shards
        shard = Shard.from_value({"shard": 0, "first_chunk": 0, "bounds": [0, 4], "quoted": []})
        record = shards.claim(job, shard, 1)
        part = Part(record.attempt, 0, tuple((chunk, 1) for chunk in chunks))
        shards.commit(job, replace(record, parts=(part,)))

    def left(self, name: str) -> int:
        """How many messages a queue holds, hidden ones included."""
        visible, hidden = self.attributes(name)
        return visible + hidden

    def attributes(self, name: str) -> tuple[int, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.url(name), AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])

    def time_passes(self) -> None:
        """Let every visibility timeout run out."""
        for queue in get_backend("sqs")["123456789012"]["us-east-1"].queues.values():
            for message in queue._messages:
                message.visible_at = 0
            queue.pending_messages.clear()

    @contextmanager
    def held(self) -> Iterator[Held]:
        with Held(self.operations.dead_letters(), 300, self.operations.clock) as held:
            yield held

    def look(self, **wanted: Any) -> Found:
        with self.held() as held:
            return self._find(held, Wanted(**wanted))

    def dead_letters(self, **wanted: Any) -> tuple[DeadLetter, ...]:
        return self.look(**wanted).dead_letters

    def redrive(self, rate: float | None = None, **wanted: Any) -> list[GroupResult]:
        return self.act(self.redriver(), rate, **wanted)

    def redriver(self) -> Redrive:
        return replace(redrive_of(self.operations), redrive_job=self.redrive_job)

    def act(self, act: Act, rate: float | None = None, **wanted: Any) -> list[GroupResult]:
        clock = self.deployment.clock

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            clock.advance(seconds=seconds)

        with self.held() as held:
            found = self._find(held, Wanted(**wanted))
            pace = Pace(rate, clock, sleep)
            store = self.operations.store
            command = DeadLetterCommand(act, held, store.audit, pace, WHO, "tests")
            return list(command.run(found.dead_letters))

    def redrive_job(self, ref: JobRef, *, only_failed: bool = False) -> Redriven:
        """The pipeline's own redrive, and a note of each run that it ordered."""
        done = self.deployment.redrive(ref, only_failed=only_failed)
        if done.started:
            self.runs_started.append(ref)
        return done

    def _find(self, held: Held, wanted: Wanted) -> Found:
        store = self.operations.store
        return find(wanted, held, jobs=store.jobs, shards=store.shards)


def dead_letter_of(job: JobRef, chunk: int = 0, *, run: int = 1, code: str = "processor_error", **changes: Any) -> Any:
    """The dead letter of a failed chunk."""
    at = datetime(2026, 11, 22, 11, 59, tzinfo=UTC)
    values: dict[str, Any] = {
        "schema_version": 1,
        "dead_letter_id": f"{job.job_id}.r{run}.c{chunk}",
        "tenant": job.tenant,
        "job_id": job.job_id,
        "run": run,
        "processor": "text-stats",
        "shard": 0,
        "chunk": chunk,
        "start": 0,
        "end": 4,
        "record": 2,
        "cause": Cause(code, "The processor raised ValueError at p.py:3. It may again."),
        "tries": (Try(1, at, code, "The processor raised ValueError at p.py:3."),),
        "input": None,
        "failed_at": at,
    }
    return ChunkDeadLetter(**(values | changes))


def batch_of(first: str, last: str) -> dict[str, Any]:
    """Lambda's record of a batch that it gave up, as the on-failure destination gets it."""
    streams = boto3.client("dynamodbstreams")
    (stream,) = streams.list_streams(TableName="jobs")["Streams"]
    (shard,) = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
    return {
        "requestContext": {
            "requestId": "316aa6d0-8154-xmpl-9af7-85d5f4a6bc81",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:announce",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 26,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2026-11-22T12:13:49.717Z",
        "DDBStreamBatchInfo": {
            "shardId": shard["ShardId"],
            "startSequenceNumber": first,
            "endSequenceNumber": last,
            "approximateArrivalOfFirstRecord": "2026-11-22T12:13:19Z",
            "approximateArrivalOfLastRecord": "2026-11-22T12:13:19Z",
            "batchSize": 2,
            "streamArn": stream["StreamArn"],
        },
    }


class Killed(BaseException):
    """The process was killed."""


@contextmanager
def killed_at(call: int, *, after: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    """Kill the process before, or after, its n-th call to AWS: nothing that it does later reaches AWS.

    Yields a function that tells whether it came to that.
    """
    calls = 0
    dead = False
    real = BaseClient._make_api_call

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls, dead
        if dead:
            raise Killed
        calls += 1
        if calls - 1 < call:
            return real(self, *args, **kwargs)
        dead = True
        if after:
            real(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", counted)
        with suppress(Killed):
            yield lambda: dead


def make_operator(deployment: Any) -> OperatorSeat:
    """The desk of a deployment's operator."""
    sqs = boto3.client("sqs")
    names = ("IntakeQueueUrl", *(queue.kind.output for queue in Queue))
    values = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in names}
    settings = deployment.settings
    values |= {
        "JobsTableName": settings.jobs_table,
        "FlowTableName": settings.flow_table,
        "MaxRunningJobs": str(settings.max_running_jobs),
        "MaxRunningJobsPerTenant": str(settings.max_running_jobs_per_tenant),
        "MaxCostPerDay": settings.max_cost_per_day or NO_CAP,
        "MaxCostPerDayPerTenant": settings.max_cost_per_day_per_tenant or NO_CAP,
        "FailedChunksUrl": settings.failed_chunks_url,
        "DataBucketName": settings.data_bucket,
        "StateMachineArn": settings.state_machine_arn,
        "EventBusName": settings.event_bus,
    }
    outputs = Outputs("The stack", values)
    return OperatorSeat(deployment, Operations(outputs, outputs.settings(), deployment.store, deployment.clock, WHO))
