"""The one way to declare a Lambda function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration, aws_logs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from backhaul.model.settings import Settings
from stacks.grants import allow, closed_role
from stacks.monitoring import log_group
from stacks.review import accept
from stacks.stage import DeploymentSettings

WHOLE_CPU = 1769
"""Megabytes of memory at which Lambda gives a function one whole vCPU."""

_RUNTIME = "The asset's compiled wheels are of Python 3.13, which Lambda supports until 2029; both move together."
_NO_DEAD_LETTERS = (
    "The API, the queue, the stream and the state machine wait for the answer and handle a failure themselves. Only "
    "EventBridge does not; what it fails to conclude, start or sweep, the next sweep does."
)

_UNTRACED = "X-Ray bills each trace and records the first call of each second: every call that a timer makes."


@dataclass(frozen=True)
class Functions:
    """Declares functions with one shared asset, each named after its file in `lambdas/`."""

    stage: DeploymentSettings
    code: lambda_.Code

    def declare(
        self,
        scope: Construct,
        name: str,
        *,
        settings: Settings,
        grants: Sequence[iam.PolicyStatement],
        timeout: Duration,
        memory: int = 256,
        reserved: int | None = None,
        traced: bool = True,
    ) -> lambda_.Function:
        """Declare the function of `lambdas/<name>.py`, which may do what `grants` allow, and log and trace itself.

        `memory` is in megabytes. `reserved` is its reserved concurrency: the most calls at a time, kept free for it.
        """
        logs = log_group(scope, f"{name}-logs", self.stage)
        function = lambda_.Function(
            scope,
            name,
            description=f"Backhaul: {name}",
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=lambda_.Architecture.ARM_64,
            code=self.code,
            handler=f"lambdas.{name}.handler",
            environment={
                **settings.to_env(),
                "POWERTOOLS_LOG_LEVEL": "INFO",
                "POWERTOOLS_SERVICE_NAME": self.stage.stack_name,
            },
            timeout=timeout,
            memory_size=memory,
            reserved_concurrent_executions=reserved,
            role=_role(scope, name, logs, grants, traced=traced),
            log_group=logs,
            tracing=lambda_.Tracing.ACTIVE if traced else lambda_.Tracing.DISABLED,
        )
        accept(function, _RUNTIME, "AwsSolutions-L1", "Serverless-LambdaLatestVersion")
        accept(function, _NO_DEAD_LETTERS, "Serverless-LambdaDLQ")
        if not traced:
            accept(function, _UNTRACED, "Serverless-LambdaTracing")
        return function


def _role(
    scope: Construct, name: str, logs: aws_logs.LogGroup, grants: Sequence[iam.PolicyStatement], *, traced: bool
) -> iam.IRole:
    """Return the role of a function: it may do what `grants` say, write its own log, and send traces."""
    tracing = [allow("xray:PutTraceSegments", "xray:PutTelemetryRecords", on="*")] if traced else []
    return closed_role(
        scope,
        f"{name}-role",
        service="lambda.amazonaws.com",
        grants=[
            *grants,
            allow("logs:CreateLogStream", "logs:PutLogEvents", on=logs.log_group_arn),
            *tracing,
        ],
        patterns="X-Ray and task tokens know no narrower resource. Every other pattern names one kind of object or "
        "execution of any job: jobs are made at run time.",
    )
