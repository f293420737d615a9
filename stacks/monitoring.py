"""Where an operator looks: logs, and messages that nobody could handle."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from stacks.review import accept
from stacks.stage import DeploymentSettings


def log_group(scope: Construct, name: str, stage: DeploymentSettings) -> logs.LogGroup:
    """Declare a log group that forgets, and that goes with its stack unless the stage keeps data."""
    return logs.LogGroup(scope, name, retention=stage.log_retention, removal_policy=stage.removal_policy)


def dead_letters(scope: Construct, name: str) -> sqs.Queue:
    """Declare a queue that holds what failed for as long as SQS can."""
    queue = sqs.Queue(scope, name, enforce_ssl=True, retention_period=Duration.days(14))
    accept(queue, "It is the end of the line itself.", "AwsSolutions-SQS3", "Serverless-SQSRedrivePolicy")
    return queue
