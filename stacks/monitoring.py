"""Where an operator looks: logs, and messages that nobody could handle."""

from __future__ import annotations

from aws_cdk import Aws, Duration, Fn, Stack
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.review import accept
from stacks.stage import DeploymentSettings


def log_group(scope: Construct, name: str, stage: DeploymentSettings) -> logs.LogGroup:
    """Declare a log group that forgets, and that goes with its stack unless the stage keeps data."""
    return logs.LogGroup(scope, name, retention=stage.log_retention, removal_policy=stage.removal_policy)


def vended_log_group(scope: Construct, name: str, stage: DeploymentSettings, *, service: str) -> logs.LogGroup:
    """Declare a log group that an AWS service writes to by itself.

    CloudWatch Logs allows that in a resource policy of the account: an entry for each log group, 5,120 characters in
    all, unless the names begin with `/aws/vendedlogs/`. The stack's own ID ends the name, so that a log group which
    outlived its stack is not in the way of the next one.
    """
    stack_id = Fn.select(2, Fn.split("/", Aws.STACK_ID))
    return logs.LogGroup(
        scope,
        name,
        log_group_name=f"/aws/vendedlogs/{service}/{Stack.of(scope).stack_name}-{stack_id}",
        retention=stage.log_retention,
        removal_policy=stage.removal_policy,
    )


def dead_letters(scope: Construct, name: str) -> sqs.Queue:
    """Declare a queue that holds what failed for as long as SQS can."""
    queue = sqs.Queue(scope, name, enforce_ssl=True, retention_period=Duration.days(14))
    accept(queue, "It is the end of the line itself.", "AwsSolutions-SQS3", "Serverless-SQSRedrivePolicy")
    return queue
