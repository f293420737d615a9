"""The one place that talks to AWS: records in DynamoDB, objects in S3, runs, dead letters, events, keys, models."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from backhaul.model.clock import Clock, SystemClock
from backhaul.model.settings import Settings
from backhaul.store.answers import AnswerStore
from backhaul.store.audit import AuditLog
from backhaul.store.breakers import BreakerStore
from backhaul.store.budgets import BudgetStore
from backhaul.store.bus import EventBus
from backhaul.store.callbacks import Callbacks
from backhaul.store.dead_letters import DeadLetterQueue
from backhaul.store.job_index import Page
from backhaul.store.jobs import JobStore
from backhaul.store.limits import LimitStore
from backhaul.store.objects import ObjectStore, PresignedUpload, S3Source
from backhaul.store.output import OutputWriter
from backhaul.store.queues import MessageQueue
from backhaul.store.runs import RunStatus, RunStore
from backhaul.store.shards import ShardStore
from backhaul.store.slots import Pause, Slots, SlotStore
from backhaul.store.steps import StepStore
from backhaul.store.stream import ChangeStream
from backhaul.store.topic import AlarmTopic
from backhaul.store.waits import WaitStore

if TYPE_CHECKING:
    from backhaul.store.models import ModelStore
    from backhaul.store.providers import ProviderStore
    from backhaul.store.secrets import SecretStore

__all__ = [
    "AlarmTopic",
    "AnswerStore",
    "AuditLog",
    "BreakerStore",
    "BudgetStore",
    "Callbacks",
    "ChangeStream",
    "DeadLetterQueue",
    "EventBus",
    "JobStore",
    "LimitStore",
    "MessageQueue",
    "ObjectStore",
    "OutputWriter",
    "Page",
    "Pause",
    "PresignedUpload",
    "RunStatus",
    "RunStore",
    "S3Source",
    "ShardStore",
    "SlotStore",
    "Slots",
    "StepStore",
    "Store",
    "WaitStore",
]

_CONFIG = Config(
    retries={"mode": "standard", "max_attempts": 5},
    connect_timeout=5,
    read_timeout=60,
    signature_version="v4",
)
# Workers treat a guard's table that is slow to answer as one that is down: the call waits, and its worker may leave.
_GUARD_CONFIG = _CONFIG.merge(
    Config(retries={"mode": "standard", "max_attempts": 2}, connect_timeout=1, read_timeout=2)
)


def _models_config(seconds: float) -> Config:
    # No retries by botocore: the code that calls a paid API decides whether to call again, and counts each try.
    return _CONFIG.merge(
        Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=seconds, max_pool_connections=64)
    )


def _s3_config() -> Config:
    # Presigned forms and URLs must be signed the same way wherever a bucket lives, hence s3v4 by name, and must
    # name its region: S3's global name answers with redirects while a bucket is new. An emulator has no such names.
    emulated = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"} & os.environ.keys()
    return _CONFIG.merge(Config(signature_version="s3v4", s3={"addressing_style": "path" if emulated else "virtual"}))


class Store:
    """Everything a deployment stores; `client` makes each AWS client when it is first used."""

    def __init__(
        self, settings: Settings, clock: Clock | None = None, client: Callable[..., Any] = boto3.client
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._make = client

    @cached_property
    def jobs(self) -> JobStore:
        """The job records."""
        return JobStore(self._dynamodb, self._settings.require("jobs_table").jobs_table, self._clock)

    @cached_property
    def shards(self) -> ShardStore:
        """The shard records."""
        return ShardStore(self._dynamodb, self._settings.require("jobs_table").jobs_table, self._clock)

    @cached_property
    def steps(self) -> StepStore:
        """The answers of memoised steps."""
        return StepStore(self._dynamodb, self._settings.require("jobs_table").jobs_table, self.objects)

    @cached_property
    def answers(self) -> AnswerStore:
        """The answers of providers that a tenant's jobs share."""
        return AnswerStore(self._dynamodb, self._settings.require("jobs_table").jobs_table, self.objects, self._clock)

    @cached_property
    def slots(self) -> SlotStore:
        """The permissions to run."""
        settings = self._settings.require("flow_table")
        most, most_per_tenant = settings.max_running_jobs, settings.max_running_jobs_per_tenant
        table, clock = settings.flow_table, self._clock
        return SlotStore(self._dynamodb, table, clock, most=most, most_per_tenant=most_per_tenant)

    @cached_property
    def limits(self) -> LimitStore:
        """The limits of providers."""
        return LimitStore(self._guards, self._settings.require("flow_table").flow_table)

    @cached_property
    def breakers(self) -> BreakerStore:
        """The circuit breakers of providers."""
        return BreakerStore(self._guards, self._settings.require("flow_table").flow_table)

    @cached_property
    def budgets(self) -> BudgetStore:
        """The budgets: their caps, and what is spent and held."""
        return BudgetStore(self._guards, self._settings.require("flow_table").flow_table, self._clock)

    @cached_property
    def waits(self) -> WaitStore:
        """The shards that wait."""
        return WaitStore(self._dynamodb, self._settings.require("flow_table").flow_table)

    @cached_property
    def callbacks(self) -> Callbacks:
        """What ends their waits."""
        return Callbacks(self._make("stepfunctions", config=_CONFIG))

    @cached_property
    def dead_letters(self) -> DeadLetterQueue:
        """The queue of failed chunks."""
        return DeadLetterQueue(self._sqs, self._settings.require("failed_chunks_url").failed_chunks_url)

    @cached_property
    def objects(self) -> ObjectStore:
        """The data bucket."""
        client = self._make("s3", config=_s3_config())
        return ObjectStore(client, self._settings.require("data_bucket").data_bucket)

    @cached_property
    def runs(self) -> RunStore:
        """The state machine."""
        client = self._make("stepfunctions", config=_CONFIG)
        return RunStore(client, self._settings.require("state_machine_arn").state_machine_arn)

    @cached_property
    def bus(self) -> EventBus:
        """The event bus."""
        client = self._make("events", config=_CONFIG)
        return EventBus(client, self._settings.require("event_bus").event_bus)

    @cached_property
    def audit(self) -> AuditLog:
        """The audit trail, in the jobs table."""
        return AuditLog(self._dynamodb, self._settings.require("jobs_table").jobs_table, self._clock)

    @cached_property
    def changes(self) -> ChangeStream:
        """The stream of the jobs table."""
        return ChangeStream(self._make("dynamodbstreams", config=_CONFIG))

    @cached_property
    def providers(self) -> ProviderStore:
        """The providers, in the flow table."""
        from backhaul.store.providers import ProviderStore  # a late import, as below: most functions call no provider

        return ProviderStore(self._dynamodb, self._settings.require("flow_table").flow_table, self._clock)

    @cached_property
    def secrets(self) -> SecretStore:
        """The keys of providers."""
        from backhaul.store.secrets import SecretStore

        return SecretStore(cache(lambda service: self._make(service, config=_CONFIG)), self._clock)

    def models(self, region: str, seconds: float) -> ModelStore:
        """Return the models of a region; an empty name stands for the deployment's own region.

        A read from Bedrock times out after `seconds`.
        """
        from backhaul.store.models import ModelStore

        client = self._make("bedrock-runtime", region_name=region or None, config=_models_config(seconds))
        return ModelStore(client, self._clock)

    def queue(self, url: str) -> MessageQueue:
        """Return the queue at this URL, for an operator's commands."""
        return MessageQueue(self._sqs, url)

    def alarm_topic(self, arn: str) -> AlarmTopic:
        """Return the topic with this ARN."""
        return AlarmTopic(self._make("sns", config=_CONFIG), arn)

    def concurrency_quota(self) -> int:
        """Return how many function calls the account may run at a time in this region."""
        limits = self._make("lambda", config=_CONFIG).get_account_settings()["AccountLimit"]
        return int(limits["ConcurrentExecutions"])

    @cached_property
    def _sqs(self) -> Any:
        return self._make("sqs", config=_CONFIG)

    @cached_property
    def _dynamodb(self) -> Any:
        return self._make("dynamodb", config=_CONFIG)

    @cached_property
    def _guards(self) -> Any:
        return self._make("dynamodb", config=_GUARD_CONFIG)
