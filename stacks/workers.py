"""The functions of a run's states, each with its grants."""

from __future__ import annotations

import re
from dataclasses import replace

from aws_cdk import ArnFormat, Aws, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.model.settings import Settings
from stacks.function import WHOLE_CPU, Functions
from stacks.grants import allow, end_waits
from stacks.stage import DeploymentSettings
from stacks.storage import Storage

_PROFILE = re.compile(r"(?:us|us-gov|eu|apac|jp|au|ca|global)\.([a-z0-9-]+\..+)")
"""The name of an inference profile: a model's name after a group of regions. The groups are listed, because some makers
of models have names as short, and versions have dots too (`zai.glm-4.7`)."""


class Workers(Construct):
    """The functions that the states of a run call; `workflow.py` has the order of the states."""

    def __init__(
        self, scope: Construct, name: str, *, storage: Storage, functions: Functions, failed_chunks: sqs.Queue
    ) -> None:
        super().__init__(scope, name)
        stored = Settings(data_bucket=storage.bucket.bucket_name, jobs_table=storage.jobs.table_name)
        failing = replace(stored, failed_chunks_url=failed_chunks.queue_url)
        stage = functions.stage
        paying = replace(
            failing,
            flow_table=storage.flow.table_name,
            max_cost_per_day=stage.max_cost_per_day,
            max_cost_per_day_per_tenant=stage.max_cost_per_day_per_tenant,
            local_providers=stage.local_providers,
        )
        self.plan = self._plan(storage, functions, stored)
        self.process = self._process(storage, functions, paying, failed_chunks)
        settling = replace(failing, flow_table=storage.flow.table_name)
        self.merge = self._merge(storage, functions, settling, failed_chunks)
        self.conclude = self._conclude(storage, functions)
        self.park = self._park(storage, functions)
        self.all = (self.plan, self.process, self.merge, self.conclude, self.park)

    def _plan(self, storage: Storage, functions: Functions, settings: Settings) -> lambda_.Function:
        return functions.declare(
            self,
            "plan",
            settings=settings,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                # A redrive reads the plan of the first run.
                allow("s3:GetObjectVersion", "s3:PutObject", on=storage.objects("plan/*")),
            ],
            timeout=Duration.minutes(5),
            memory=WHOLE_CPU,  # CSV files are read once as a whole, to count their quotes
        )

    def _process(
        self, storage: Storage, functions: Functions, settings: Settings, failed_chunks: sqs.Queue
    ) -> lambda_.Function:
        stage = functions.stage
        return functions.declare(
            self,
            "process",
            settings=settings,
            grants=[
                allow(
                    "dynamodb:GetItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:PutItem",  # the answers of steps
                    "dynamodb:Query",
                    on=storage.jobs.table_arn,
                ),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                allow("s3:GetObject", "s3:PutObject", on=[storage.objects("results/*"), storage.objects("steps/*")]),
                allow("s3:GetObject", "s3:PutObject", on=storage.answers),
                allow("sqs:SendMessage", on=failed_chunks.queue_arn),
                *_calls(self, storage, stage),
            ],
            timeout=Duration.seconds(stage.worker_timeout_seconds),
            memory=WHOLE_CPU,
            reserved=stage.reserved_workers,
        )

    def _merge(
        self, storage: Storage, functions: Functions, settings: Settings, failed_chunks: sqs.Queue
    ) -> lambda_.Function:
        return functions.declare(
            self,
            "merge",
            settings=settings,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                # The merge settles the holds of dead workers in the budgets, and reads what the job has cost.
                allow(
                    "dynamodb:GetItem",
                    "dynamodb:UpdateItem",
                    on=storage.flow.table_arn,
                    conditions=storage.only_items("BUDGET#*"),
                ),
                allow("s3:GetObject", on=storage.objects("results/*")),
                allow("s3:GetObjectVersion", on=storage.objects("plan/*")),
                allow("s3:PutObject", on=[storage.objects("output/*"), storage.objects("receipt/*")]),
                allow("s3:AbortMultipartUpload", on=storage.objects("output/*")),
                allow("sqs:SendMessage", on=failed_chunks.queue_arn),
            ],
            timeout=Duration.minutes(15),
            memory=WHOLE_CPU,
        )

    def _conclude(self, storage: Storage, functions: Functions) -> lambda_.Function:
        return functions.declare(
            self,
            "conclude",
            settings=Settings(jobs_table=storage.jobs.table_name),
            grants=[allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.jobs.table_arn)],
            timeout=Duration.seconds(30),
        )

    def _park(self, storage: Storage, functions: Functions) -> lambda_.Function:
        return functions.declare(
            self,
            "park",
            settings=Settings(jobs_table=storage.jobs.table_name, flow_table=storage.flow.table_name),
            grants=[
                allow("dynamodb:GetItem", on=storage.jobs.table_arn),
                # What a wait is compared with: it may have changed before the token was stored.
                allow(
                    "dynamodb:GetItem",
                    on=storage.flow.table_arn,
                    conditions=storage.only_items("PROVIDER#*", "BREAKER#*"),
                ),
                allow(
                    "dynamodb:PutItem",
                    "dynamodb:DeleteItem",
                    on=storage.flow.table_arn,
                    conditions=storage.only_items("WAITS#*"),
                ),
                end_waits(),
            ],
            timeout=Duration.seconds(30),
        )


def _calls(scope: Construct, storage: Storage, stage: DeploymentSettings) -> list[iam.PolicyStatement]:
    """Return the grants for calls of providers: settings, keys, models, limits, breakers and budgets, but not slots."""
    stack, guards = Stack.of(scope), ("LIMIT#*", "BREAKER#*", "BUDGET#*")
    keys = [
        stack.format_arn(
            service="secretsmanager",
            resource="secret",
            resource_name=f"{stack.stack_name}/*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        ),
        stack.format_arn(service="ssm", resource="parameter", resource_name=f"{stack.stack_name}/*"),
    ]
    models = [allow("bedrock:InvokeModel", on=_models(stack, stage))] if stage.bedrock_models else []
    return [
        allow("dynamodb:GetItem", on=storage.flow.table_arn, conditions=storage.only_items("PROVIDER#*", *guards)),
        allow("dynamodb:UpdateItem", on=storage.flow.table_arn, conditions=storage.only_items(*guards)),
        allow("secretsmanager:GetSecretValue", on=keys[0]),
        allow("ssm:GetParameter", on=keys[1]),
        *models,
    ]


def _models(stack: Stack, stage: DeploymentSettings) -> list[str]:
    found = []
    for model in stage.bedrock_models:
        profile = _PROFILE.fullmatch(model)
        if profile:  # a profile calls the model in regions that it chooses, and IAM needs both in the grant
            found.append(
                stack.format_arn(service="bedrock", region="*", resource="inference-profile", resource_name=model)
            )
        name = profile[1] if profile else model
        found.append(f"arn:{Aws.PARTITION}:bedrock:*::foundation-model/{name}")
    return found
