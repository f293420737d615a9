"""Log groups and dead-letter queues, which operators read."""

from __future__ import annotations

from aws_cdk import Aws, Duration, Fn, Stack
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.review import accept
from stacks.stage import DeploymentSettings


def log_group(scope: Construct, name: str, stage: DeploymentSettings) -> logs.LogGroup:
    """Declare a log group with a retention; it is deleted with its stack unless the deployment keeps data."""
    return logs.LogGroup(scope, name, retention=stage.log_retention, removal_policy=stage.removal_policy)


def vended_log_group(scope: Construct, name: str, stage: DeploymentSettings, *, service: str) -> logs.LogGroup:
    """Declare a log group to which an AWS service writes directly.

    The service's right to write stands in a resource policy of the account with at most 5,120 characters, which needs
    an entry for each log group, unless their names begin with `/aws/vendedlogs/`. The name ends with the stack's ID,
    so that a log group that outlives its stack does not block the next stack of that name.
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
    """Declare a dead-letter queue that keeps messages for as long as SQS can, which is fourteen days."""
    queue = sqs.Queue(scope, name, enforce_ssl=True, retention_period=Duration.days(14))
    accept(queue, "It is the end of the line itself.", "AwsSolutions-SQS3", "Serverless-SQSRedrivePolicy")
    return queue
