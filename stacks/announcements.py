"""Events for changes of jobs and of providers' breakers: the tables' streams → announce → bus."""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.model.events import DETAIL_TYPES, SOURCE
from backhaul.model.job import JobState
from backhaul.model.keys import JOB_SORT_KEY
from backhaul.model.settings import Settings
from backhaul.store import breakers
from stacks.function import Functions
from stacks.grants import allow
from stacks.review import accept
from stacks.storage import Storage


class Announcements(Construct):
    """The event bus, to which other systems subscribe, and the function that publishes to it."""

    def __init__(
        self, scope: Construct, name: str, *, storage: Storage, functions: Functions, dead_letters: sqs.Queue
    ) -> None:
        super().__init__(scope, name)
        self.bus = events.EventBus(self, "bus")
        tables = {storage.jobs: JOB_SORT_KEY, storage.flow: breakers.SORT_KEY}

        self.announce = functions.declare(
            self,
            "announce",
            settings=Settings(data_bucket=storage.bucket.bucket_name, event_bus=self.bus.event_bus_name),
            grants=[
                allow(
                    "dynamodb:DescribeStream",
                    "dynamodb:GetRecords",
                    "dynamodb:GetShardIterator",
                    "dynamodb:ListStreams",
                    on=[table.table_stream_arn or "" for table in tables],
                ),
                allow("events:PutEvents", on=self.bus.event_bus_arn),
                allow("sqs:SendMessage", on=dead_letters.queue_arn),
            ],
            timeout=Duration.seconds(30),
        )
        for table, sort_key in tables.items():
            self.announce.add_event_source(
                sources.DynamoEventSource(
                    table,
                    starting_position=lambda_.StartingPosition.TRIM_HORIZON,
                    filters=[lambda_.FilterCriteria.filter(_written(sort_key))],
                    bisect_batch_on_error=True,
                    report_batch_item_failures=True,
                    retry_attempts=25,
                    on_failure=sources.SqsDlq(dead_letters),
                )
            )

    def wake_at_job_end(self, function: lambda_.IFunction) -> None:
        """Call the function after each end of a job."""
        ended = events.EventPattern(
            source=[SOURCE],
            detail_type=[DETAIL_TYPES[state] for state in JobState if state.is_terminal],
        )
        rule = events.Rule(
            self, "job-ended", event_bus=self.bus, event_pattern=ended, targets=[targets.LambdaFunction(function)]
        )
        accept(rule, "The sweep does the same each minute, whether or not it was told.", "Serverless-EventBusDLQ")


def _written(sort_key: str) -> dict[str, Any]:
    return {
        # Not REMOVE: the deletion of an expired record is no change of its job.
        "eventName": lambda_.FilterRule.or_("INSERT", "MODIFY"),
        "dynamodb": {"Keys": {"sk": {"S": lambda_.FilterRule.is_equal(sort_key)}}},
    }
