"""The HTTP API: every route takes requests signed by IAM, and a policy lets callers sign them."""

from __future__ import annotations

import json

from aws_cdk import Duration, Stack
from aws_cdk import aws_apigatewayv2 as http
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_authorizers import HttpIamAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from backhaul.settings import Settings
from backhaul.store.jobs import BY_TENANT
from stacks.function import Functions
from stacks.grants import allow
from stacks.monitoring import log_group
from stacks.stage import StageSettings
from stacks.storage import Storage


class Api(Construct):
    """The API, its functions, and what a caller needs."""

    def __init__(self, scope: Construct, name: str, *, storage: Storage, functions: Functions) -> None:
        super().__init__(scope, name)
        stage = functions.stage
        self.submit = functions.declare(
            self,
            "submit",
            settings=Settings(
                data_bucket=storage.bucket.bucket_name,
                jobs_table=storage.jobs.table_name,
                max_upload_bytes=stage.max_upload_bytes,
                upload_window_seconds=stage.upload_window_seconds,
                retention_days=stage.retention_days,
            ),
            grants=[
                allow("dynamodb:PutItem", on=storage.jobs.table_arn),
                allow("s3:PutObject", on=storage.objects("input/data")),
            ],
            timeout=Duration.seconds(10),
        )
        self.inquire = functions.declare(
            self,
            "inquire",
            settings=Settings(data_bucket=storage.bucket.bucket_name, jobs_table=storage.jobs.table_name),
            grants=[
                allow("dynamodb:GetItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("dynamodb:Query", on=storage.index(BY_TENANT)),
                allow("s3:GetObjectVersion", on=[storage.objects("output/*"), storage.objects("receipt/*")]),
            ],
            timeout=Duration.seconds(10),
        )
        self.api = http.HttpApi(
            self,
            "http",
            api_name=Stack.of(self).stack_name,
            create_default_stage=False,
            default_authorizer=HttpIamAuthorizer(),
            cors_preflight=_cors(stage),
        )
        self.stage = self._stage(stage)
        self._route("POST", self.submit, "/jobs")
        self._route(
            "GET",
            self.inquire,
            "/jobs",
            "/jobs/{job_id}",
            "/jobs/{job_id}/result",
            "/jobs/{job_id}/receipt",
            "/processors",
        )
        self.client_policy = self._client_policy()
