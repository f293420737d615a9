"""From a change to the shards that wait for it: the tables' streams → wake → the state machine."""

from __future__ import annotations

from typing import Any

from aws_cdk import Duration
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from constructs import Construct

from backhaul.model.breaker import Phase
from backhaul.model.job import JobState
from backhaul.model.keys import JOB_SORT_KEY
from backhaul.model.settings import Settings
from backhaul.store import breakers, providers
from stacks.function import Functions
from stacks.grants import allow, end_waits
from stacks.review import accept
from stacks.storage import Storage


class Waking(Construct):
    """The function that wakes shards. What it cannot do in its tries, the sweep does each minute."""

    def __init__(self, scope: Construct, name: str, *, storage: Storage, functions: Functions) -> None:
        super().__init__(scope, name)
        tables = {
            storage.jobs: [_written(JOB_SORT_KEY, state=JobState.RUNNING, has_stop=True)],
            storage.flow: [
                _written(breakers.SORT_KEY, state=Phase.CLOSED),
                {"dynamodb": {"Keys": {"sk": {"S": lambda_.FilterRule.is_equal(providers.SORT_KEY)}}}},
            ],
        }
        self.wake = functions.declare(
            self,
            "wake",
            settings=Settings(flow_table=storage.flow.table_name),
            grants=[
                allow(
                    "dynamodb:DescribeStream",
                    "dynamodb:GetRecords",
                    "dynamodb:GetShardIterator",
                    "dynamodb:ListStreams",
                    on=[table.table_stream_arn or "" for table in tables],
                ),
                allow(
                    "dynamodb:Query",
                    "dynamodb:DeleteItem",
                    on=storage.flow.table_arn,
                    conditions=storage.only_items("WAITS#*"),
                ),
                end_waits(),
            ],
            timeout=Duration.seconds(30),
        )
        for table, filters in tables.items():
            self.wake.add_event_source(
                sources.DynamoEventSource(
                    table,
                    # Not from the beginning: whoever waited before this was deployed has no token.
                    starting_position=lambda_.StartingPosition.LATEST,
                    filters=[lambda_.FilterCriteria.filter(each) for each in filters],
                    bisect_batch_on_error=True,
                    report_batch_item_failures=True,
                    retry_attempts=25,
                )
            )
        accept(self, "A shard that a lost word should have woken is woken by the next sweep.", _DESTINATION)


_DESTINATION = "Serverless-LambdaEventSourceMappingDestination"


def _written(sort_key: str, *, state: str, has_stop: bool = False) -> dict[str, Any]:
    """Return the filter of writes that leave an item in this state; of jobs only those that are to stop."""
    image: dict[str, Any] = {"state": {"S": lambda_.FilterRule.is_equal(state)}}
    if has_stop:
        image["stop"] = {"M": {"kind": {"S": lambda_.FilterRule.exists()}}}
    return {
        "eventName": lambda_.FilterRule.or_("INSERT", "MODIFY"),
        "dynamodb": {"Keys": {"sk": {"S": lambda_.FilterRule.is_equal(sort_key)}}, "NewImage": image},
    }
