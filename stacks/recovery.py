"""Recovery, so that no job stays RUNNING for ever: a rule on runs that ended badly, and the sweep of every minute."""

from __future__ import annotations

from dataclasses import replace

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from backhaul.store.job_index import DUE, QUEUED, QUEUED_BY_TENANT
from stacks.function import Functions
from stacks.grants import allow, end_waits
from stacks.review import accept
from stacks.storage import Storage
from stacks.workflow import Workflow


class Recovery(Construct):
    """The rule on runs that ended badly, and the sweep's timer: the rule is faster, and the timer finds all jobs."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        storage: Storage,
        workflow: Workflow,
        functions: Functions,
    ) -> None:
        super().__init__(scope, name)
        ended_badly = events.EventPattern(
            source=["aws.states"],
            detail_type=["Step Functions Execution Status Change"],
            detail={
                "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                "stateMachineArn": [workflow.state_machine.state_machine_arn],
            },
        )
        self.sweep = functions.declare(
            self,
            "sweep",
            settings=replace(workflow.admission, data_bucket=storage.bucket.bucket_name),
            grants=[
                allow("dynamodb:Query", on=[storage.index(each) for each in (DUE, QUEUED, QUEUED_BY_TENANT)]),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem", on=storage.flow.table_arn),
                # Shards that wait, and whose wait is over.
                allow(
                    "dynamodb:Query",
                    "dynamodb:DeleteItem",
                    on=storage.flow.table_arn,
                    conditions=storage.only_items("WAITS#*"),
                ),
                end_waits(),
                allow("states:StartExecution", on=workflow.state_machine.state_machine_arn),
                allow("states:DescribeExecution", "states:StopExecution", on=workflow.executions),
                allow("s3:GetObject", on=storage.objects("input/data")),
            ],
            timeout=Duration.seconds(50),
            traced=False,
        )
        sweep = targets.LambdaFunction(self.sweep)
        rule = events.Rule(self, "run-ended-badly", event_pattern=ended_badly, targets=[sweep])
        accept(rule, "The minute's sweep finds each run whose end this rule missed.", "Serverless-EventBusDLQ")
        every_minute = events.Schedule.rate(Duration.minutes(1))
        timer = events.Rule(self, "every-minute", schedule=every_minute, targets=[sweep])
        accept(timer, "A sweep that is missed is made good by the next, a minute later.", "Serverless-EventBusDLQ")
