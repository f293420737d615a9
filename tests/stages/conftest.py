"""The real stages over moto: one deployment in this process, driven by hand."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import msgspec
import pytest
from moto import mock_aws
from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.core.model_instances import reset_model_data
from moto.dynamodb.responses import DynamoHandler
from moto.stepfunctions.models import StepFunctionBackend

from backhaul.model import keys
from backhaul.model.job import Job, JobRef, JobState, ObjectRef
from backhaul.model.settings import Settings
from backhaul.model.shard import Shard
from backhaul.model.task import RunTask, ShardTask
from backhaul.paid.channels import Channels
from backhaul.plugin.registry import Registry, find_processors
from backhaul.stages.announce import Change, announce
from backhaul.stages.command import Redriven, cancel, redrive
from backhaul.stages.dispatch import Upload, dispatch, hand_on, uploads_in
from backhaul.stages.merge import merge
from backhaul.stages.plan import Planned, plan
from backhaul.stages.process import process
from backhaul.stages.submit import Submission, Submitted, submit
from backhaul.stages.sweep import Swept, sweep
from backhaul.store import Store
from backhaul.worker.outcome import Outcome
from prove.clients import clients
from tests.receipts import VALIDATOR
from tests.tracing import foreign_code_untraced

TENANT = "AIDAEXAMPLE"


class FakeClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def advance(self, **step: float) -> None:
        self.time += timedelta(**step)


class RunningClock(FakeClock):
    """A clock that runs by itself, beside another's time of day."""

    def __init__(self, other: FakeClock) -> None:
        super().__init__()
        self._other = other

    def now(self) -> datetime:
        return self._other.now()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Deployment:
    """Everything a deployment has, and a call for each stage."""

    settings: Settings
    store: Store
    clock: FakeClock
    registry: Registry
    s3: Any
    remaining: float = 300.0
    outcomes: list[Outcome] = field(default_factory=list)

    @functools.cached_property
    def channels(self) -> Channels:
        """What the worker process knows of providers: there is one process."""
        store = self.store
        return Channels(
            store.providers,
            store.secrets,
            store.models,
            store.limits,
            store.breakers,
            self.clock,
            local_providers=True,  # the strict provider is a process of this machine
        )

    def submit(self, processor: str, data: bytes, *, tenant: str = TENANT, **request: Any) -> Submitted:
        wanted = Submission(processor, request.pop("file_name", "file.txt"), len(data), **request)
        return submit(
            wanted,
            tenant,
            registry=self.registry,
            jobs=self.store.jobs,
            objects=self.store.objects,
            settings=self.settings,
            clock=self.clock,
        )

    def put_input(self, job: JobRef, data: bytes) -> Upload:
        key = keys.input_key(job)
        version = self.s3.put_object(Bucket=self.settings.data_bucket, Key=key, Body=data)["VersionId"]
        return Upload(job, ObjectRef(key, version, len(data)))

    def dispatch(self, upload: Upload) -> Job:
        store = self.store
        return dispatch(upload, jobs=store.jobs, runs=store.runs, slots=store.slots, clock=self.clock)

    def notification(self, *uploads: Upload, **changes: Any) -> str:
        """The S3 event notification of uploads, as S3 writes it to the queue."""
        return msgspec.json.encode({"Records": [self._record(upload, changes) for upload in uploads]}).decode()

    def _record(self, upload: Upload, changes: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-11-22T12:00:00.000Z",
            "eventName": "ObjectCreated:Post",
            "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "uploads",
                "bucket": {"name": "data", "ownerIdentity": {"principalId": "A3"}, "arn": "arn:aws:s3:::data"},
                "object": {
                    "key": upload.object.key,
                    "size": upload.object.size,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": upload.object.version_id,
                    "sequencer": "0055AED6DCD90281E5",
                    **changes,
                },
            },
        }

    def receive(self, message: str) -> list[Job]:
        """Dispatch every upload of a message."""
        return [self.dispatch(upload) for upload in uploads_in(message)]

    def job(self, ref: JobRef) -> Job:
        return self.store.jobs.get(ref)

    def sweep(self) -> dict[str, int]:
        swept = self.swept()
        swept.raise_problems()
        return dict(swept.mended)

    def swept(self) -> Swept:
        store = self.store
        return sweep(
            jobs=store.jobs,
            shards=store.shards,
            objects=store.objects,
            runs=store.runs,
            slots=store.slots,
            waits=store.waits,
            breakers=store.breakers,
            callbacks=store.callbacks,
            clock=self.clock,
        )

    def hand_on(self, ended: JobRef) -> int:
        store = self.store
        return hand_on(ended, jobs=store.jobs, runs=store.runs, slots=store.slots, clock=self.clock)

    def cancel(self, ref: JobRef, reason: str | None = None) -> Job:
        return cancel(ref, reason, jobs=self.store.jobs, slots=self.store.slots, clock=self.clock)

    def redrive(self, ref: JobRef, *, only_failed: bool = False) -> Redriven:
        store = self.store
        return redrive(
            ref,
            only_failed=only_failed,
            jobs=store.jobs,
            shards=store.shards,
            objects=store.objects,
            slots=store.slots,
            runs=store.runs,
            clock=self.clock,
        )

    def dead_letters(self) -> list[dict[str, Any]]:
        """The bodies of all messages in the queue of failed chunks, with their message IDs."""
        sqs, found = boto3.client("sqs"), []
        while messages := sqs.receive_message(
            QueueUrl=self.settings.failed_chunks_url, MaxNumberOfMessages=10, VisibilityTimeout=60
        ).get("Messages"):
            found += [msgspec.json.decode(each["Body"]) | {"message_id": each["MessageId"]} for each in messages]
        return found

    def executions(self) -> list[Any]:
        """The runs that were started, as the emulated Step Functions holds them."""
        machines = get_backend("stepfunctions")["123456789012"]["us-east-1"].state_machines
        return [execution for machine in machines for execution in machine.executions]

    def end_run(self, status: str, error: str = "", cause: str = "") -> None:
        """Let the only run end in this way without a word to anybody."""
        (execution,) = self.executions()
        execution.status, execution.error, execution.cause = status, error, cause

    def stream(self) -> list[dict[str, Any]]:
        """Every record of the jobs table's stream so far."""
        streams = boto3.client("dynamodbstreams")
        (stream,) = streams.list_streams(TableName="jobs")["Streams"]
        (shard,) = streams.describe_stream(StreamArn=stream["StreamArn"])["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(
            StreamArn=stream["StreamArn"], ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        records: list[dict[str, Any]] = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        return records

    def changes(self) -> list[Change]:
        """The stream so far, as `announce` takes it."""
        images = (record["dynamodb"] for record in self.stream())
        return [
            Change(image["SequenceNumber"], image.get("OldImage", {}), image.get("NewImage", {})) for image in images
        ]

    def announce(self, changes: list[Change], bus: Any = None) -> str | None:
        return announce(changes, bus=bus or self.store.bus, bucket=self.settings.data_bucket)

    def plan(self, task: RunTask) -> Planned:
        store = self.store
        return plan(task, jobs=store.jobs, shards=store.shards, objects=store.objects, registry=self.registry)

    def shard_tasks(self, task: RunTask) -> list[ShardTask]:
        got = self.s3.get_object(Bucket=self.settings.data_bucket, Key=keys.plan_key(task.job, task.run))
        lines = got["Body"].read().splitlines()
        return [ShardTask(task.job, task.run, Shard.from_value(msgspec.json.decode(line))) for line in lines]

    def process(self, task: ShardTask) -> Outcome:
        outcome = process(
            task,
            store=self.store,
            channels=self.channels,
            registry=self.registry,
            settings=self.settings,
            clock=self.clock,
            remaining=lambda: self.remaining,
        )
        self.outcomes.append(outcome)
        return outcome

    def merge(self, task: RunTask) -> Job:
        store = self.store
        return merge(
            task,
            jobs=store.jobs,
            shards=store.shards,
            steps=store.steps,
            objects=store.objects,
            dead_letters=store.dead_letters,
            budgets=store.budgets,
            registry=self.registry,
            clock=self.clock,
        )

    def start(self, processor: str, data: bytes, **request: Any) -> RunTask:
        """Bring a job to RUNNING."""
        job = self.submit(processor, data, **request).job
        started = self.dispatch(self.put_input(job.ref, data))
        assert started.state is JobState.RUNNING
        return RunTask(job.ref, started.run)

    def finish(self, task: RunTask) -> Job:
        """Bring a running job to its end, shard after shard."""
        planned = self.plan(task).outcome
        if planned == "planned":
            for shard in self.shard_tasks(task):
                while (outcome := self.process(shard)).outcome != "done":
                    self.clock.advance(seconds=outcome.seconds)
        return self.store.jobs.get(task.job) if planned == "ended" else self.merge(task)

    def run(self, processor: str, data: bytes, **request: Any) -> Job:
        return self.finish(self.start(processor, data, **request))

    def read(self, ref: ObjectRef | None) -> bytes:
        assert ref is not None
        got = self.s3.get_object(Bucket=self.settings.data_bucket, Key=ref.key, VersionId=ref.version_id)
        body: bytes = got["Body"].read()
        assert len(body) == ref.size
        return body

    def receipt(self, job: Job) -> dict[str, Any]:
        """The receipt of a job's last run, which keeps to the published form."""
        document: dict[str, Any] = msgspec.json.decode(self.read(job.receipt))
        VALIDATOR.validate(document)
        return document

    def with_real_watch(self) -> Deployment:
        """The same with a clock that runs by itself, for what looks at it from a thread."""
        return replace(self, clock=RunningClock(self.clock))

    def with_processors(self, *processors: Any) -> Deployment:
        known = {**self.registry.processors, **{each.name: each for each in processors}}
        return replace(self, registry=replace(self.registry, processors=known))


@pytest.fixture(scope="session", autouse=True)
def _aws_is_moto_throughout() -> Iterator[None]:
    """Starting moto, and letting botocore read its models, takes longer than most tests: once is enough."""
    clients()
    with foreign_code_untraced(), mock_aws():
        yield


@pytest.fixture
def empty_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is left in moto of any earlier test, nor in boto3 of its credentials; nor is anything of this one."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    BackendDict.reset()
    yield
    BackendDict.reset()
    reset_model_data()


@pytest.fixture
def lend(monkeypatch: pytest.MonkeyPatch, empty_aws: None) -> Iterator[Callable[..., Any]]:
    """Lend clients of earlier tests to this one, through `boto3.client` too: making a new one takes 20 ms."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    lender, lent = clients(), []

    def client(service: str, config: Any = None) -> Any:
        lent.append(lender.lend(service, config))
        return lent[-1].client

    monkeypatch.setattr(boto3, "client", client)
    yield client
    for each in lent:
        lender.take_back(each)


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, lend: Callable[..., Any]) -> Deployment:
    """A deployment of its own, empty."""
    _serialize_writes(monkeypatch)
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="data")
    s3.put_bucket_versioning(Bucket="data", VersioningConfiguration={"Status": "Enabled"})
    _create_jobs_table()
    _create_flow_table()
    boto3.client("events").create_event_bus(Name="bus")
    settings = Settings(
        data_bucket="data",
        jobs_table="jobs",
        flow_table="flow",
        event_bus="bus",
        state_machine_arn=_create_state_machine(),
        failed_chunks_url=boto3.client("sqs").create_queue(QueueName="failed-chunks")["QueueUrl"],
    )
    clock = FakeClock()
    return Deployment(settings, Store(settings, clock, lend), clock, _built_in(), s3)


# Python looks through all installed packages for those that bring processors.
_built_in = functools.cache(find_processors)


def _serialize_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS applies what is done to one item, or to one execution's name, one after the other; moto's threads do not."""
    lock = threading.Lock()

    def serialized(write: Any) -> Any:
        def locked(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return write(*args, **kwargs)

        return locked

    # Until its answer is made: moto makes that of the item as it is by then, also for who only reads.
    for operation in ("get_item", "put_item", "update_item", "delete_item", "query", "scan", "transact_write_items"):
        monkeypatch.setattr(DynamoHandler, operation, serialized(getattr(DynamoHandler, operation)))
    monkeypatch.setattr(StepFunctionBackend, "start_execution", serialized(StepFunctionBackend.start_execution))


def _create_jobs_table() -> None:
    strings = ("pk", "sk", "tenant", "job_id", "open_state", "due_at", "queue", "turn")
    boto3.client("dynamodb").create_table(
        TableName="jobs",
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in strings],
        KeySchema=_keys("pk", "sk"),
        GlobalSecondaryIndexes=[
            {"IndexName": "by-tenant", "KeySchema": _keys("tenant", "job_id"), "Projection": {"ProjectionType": "ALL"}},
            {"IndexName": "due", "KeySchema": _keys("open_state", "due_at"), "Projection": {"ProjectionType": "ALL"}},
            {"IndexName": "queued", "KeySchema": _keys("queue", "turn"), "Projection": {"ProjectionType": "KEYS_ONLY"}},
            {
                "IndexName": "queued-by-tenant",
                "KeySchema": _keys("tenant", "turn"),
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["queue"]},
            },
        ],
    )


def _create_flow_table() -> None:
    boto3.client("dynamodb").create_table(
        TableName="flow",
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        KeySchema=_keys("pk", "sk"),
    )


def _keys(partition: str, sort: str) -> Any:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _create_state_machine() -> str:
    wait = '{"StartAt": "wait", "States": {"wait": {"Type": "Wait", "Seconds": 60, "End": true}}}'
    made = boto3.client("stepfunctions").create_state_machine(
        name="runs", definition=wait, roleArn="arn:aws:iam::123456789012:role/runs"
    )
    return made["stateMachineArn"]
