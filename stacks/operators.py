"""The permissions of operators, which the commands of `docs/operations.md` need."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.store.job_index import BY_TENANT, DUE, QUEUED, QUEUED_BY_TENANT
from stacks.grants import allow, describe_stack
from stacks.review import accept_patterns
from stacks.storage import Storage
from stacks.workflow import Workflow


class Operators(Construct):
    """A policy for the users or roles of operators, whose commands call AWS directly and not the API."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        storage: Storage,
        workflow: Workflow,
        intake: sqs.Queue,
        dead_letters: Sequence[sqs.Queue],
        bus: events.EventBus,
        alarms: sns.Topic,
    ) -> None:
        super().__init__(scope, name)
        stack = Stack.of(self)
        grants = [
            describe_stack(stack),
            allow(*_DEAD_LETTERS, on=[each.queue_arn for each in dead_letters]),
            allow("sqs:SendMessage", on=intake.queue_arn),
            *_records(storage),
            allow("events:PutEvents", on=bus.event_bus_arn),
            allow("states:StartExecution", on=workflow.state_machine.state_machine_arn),
            allow("states:DescribeExecution", "states:StopExecution", on=workflow.executions),
            *_files(storage),
            allow("sns:ListSubscriptionsByTopic", on=alarms.topic_arn),
            allow("lambda:GetAccountSettings", on="*"),
        ]
        self.policy = iam.ManagedPolicy(
            self, "policy", description=f"Lets its bearer look after {stack.stack_name}.", statements=grants
        )
        accept_patterns(
            self.policy,
            "An operator looks after the jobs of every tenant, and jobs are made at run time. A stack's ARN ends in "
            "an ID that AWS makes up. An account's settings know no narrower resource.",
            grants,
        )


_DEAD_LETTERS = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes")


def _records(storage: Storage) -> list[iam.PolicyStatement]:
    return [
        allow(
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:Query",
            on=[storage.jobs.table_arn, storage.flow.table_arn],
        ),
        # No index lists the providers, so a command reads the whole table.
        allow("dynamodb:Scan", on=storage.flow.table_arn),
        allow("dynamodb:DeleteItem", on=storage.flow.table_arn, conditions=storage.only_items("PROVIDER#*")),
        allow("dynamodb:Query", on=[storage.index(each) for each in (BY_TENANT, DUE, QUEUED, QUEUED_BY_TENANT)]),
        allow(
            # A stream's dead letter holds only the position of the changes, so a command reads them from the stream.
            "dynamodb:GetRecords",
            "dynamodb:GetShardIterator",
            on=[table.table_stream_arn or "" for table in (storage.jobs, storage.flow)],
        ),
    ]


def _files(storage: Storage) -> list[iam.PolicyStatement]:
    readable = [storage.objects(kind) for kind in ("input/data", "plan/*", "results/*", "output/*", "receipt/*")]
    return [
        allow("s3:GetObject", "s3:GetObjectVersion", on=readable),
        # Without s3:ListBucket, S3 answers 403 both for an absent object and for a forbidden one.
        allow("s3:ListBucket", "s3:ListBucketMultipartUploads", on=storage.bucket.bucket_arn),
        allow("s3:AbortMultipartUpload", on=storage.objects("output/*")),
    ]
