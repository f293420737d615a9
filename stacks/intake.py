"""The way from an upload to a run: S3 → queue (→ dead letters) → dispatch."""

from __future__ import annotations

from typing import cast

from aws_cdk import Aws, Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.model.keys import INPUT_PREFIX, INPUT_SUFFIX
from backhaul.store.job_index import QUEUED, QUEUED_BY_TENANT
from stacks.function import Functions
from stacks.grants import allow
from stacks.review import accept
from stacks.storage import Storage
from stacks.workflow import Workflow

DISPATCH_TIMEOUT = Duration.seconds(30)


class Intake(Construct):
    """The queue of finished uploads, and the function that claims them."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        storage: Storage,
        workflow: Workflow,
        functions: Functions,
        dead_letters: sqs.Queue,
    ) -> None:
        super().__init__(scope, name)
        self.queue = sqs.Queue(
            self,
            "queue",
            enforce_ssl=True,
            # Six times the function's timeout, as AWS recommends, so that throttled batches come back in time.
            visibility_timeout=Duration.seconds(6 * DISPATCH_TIMEOUT.to_seconds()),
            retention_period=Duration.days(14),
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=5),
        )
        _notify(storage, self.queue)

        self.dispatch = functions.declare(
            self,
            "dispatch",
            settings=workflow.admission,
            grants=[
                allow("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", on=self.queue.queue_arn),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.jobs.table_arn),
                allow("dynamodb:Query", on=[storage.index(each) for each in (QUEUED, QUEUED_BY_TENANT)]),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem", on=storage.flow.table_arn),
                allow("states:StartExecution", on=workflow.state_machine.state_machine_arn),
            ],
            timeout=DISPATCH_TIMEOUT,
        )
        self.dispatch.add_event_source(
            sources.SqsEventSource(
                self.queue, report_batch_item_failures=True, max_concurrency=functions.stage.dispatchers
            )
        )
        accept(
            self.dispatch,
            "Lambda takes no destination for a queue; the queue's own redrive policy leads to the dead letters.",
            "Serverless-LambdaEventSourceMappingDestination",
        )


def _notify(storage: Storage, queue: sqs.Queue) -> None:
    """Send each finished upload to the queue; CDK's own method would add a custom resource with wide grants."""
    allowed = queue.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sqs:SendMessage"],
            principals=[iam.ServicePrincipal("s3.amazonaws.com")],
            resources=[queue.queue_arn],
            conditions={
                "ArnEquals": {"aws:SourceArn": storage.bucket_arn},
                "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
            },
        )
    )
    bucket = cast(s3.CfnBucket, storage.bucket.node.default_child)
    rule = s3.CfnBucket.FilterRuleProperty
    bucket.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
        queue_configurations=[
            s3.CfnBucket.QueueConfigurationProperty(
                event="s3:ObjectCreated:*",
                queue=queue.queue_arn,
                filter=s3.CfnBucket.NotificationFilterProperty(
                    s3_key=s3.CfnBucket.S3KeyFilterProperty(
                        rules=[rule(name="prefix", value=INPUT_PREFIX), rule(name="suffix", value=INPUT_SUFFIX)]
                    )
                ),
            )
        ]
    )
    # S3 checks when the bucket is created that it may send to the queue, so the queue's policy must exist first.
    bucket.node.add_dependency(cast(Construct, allowed.policy_dependable))
