"""The HTTP API, whose routes all take requests signed with IAM, and the policy that lets callers use it."""

from __future__ import annotations

import json
from typing import cast

from aws_cdk import Duration, Stack
from aws_cdk import aws_apigatewayv2 as http
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk.aws_apigatewayv2_authorizers import HttpIamAuthorizer
from aws_cdk.aws_apigatewayv2_integrations import HttpLambdaIntegration
from constructs import Construct

from backhaul.model.settings import Settings
from backhaul.store.job_index import BY_TENANT
from stacks.function import WHOLE_CPU, Functions
from stacks.grants import allow, describe_stack
from stacks.monitoring import vended_log_group
from stacks.review import accept_patterns
from stacks.stage import DeploymentSettings
from stacks.storage import Storage


class Api(Construct):
    """The API, its functions, and the policy for callers."""

    def __init__(self, scope: Construct, name: str, *, storage: Storage, functions: Functions) -> None:
        super().__init__(scope, name)
        stage = functions.stage
        self.submit = self._submit(storage, functions)
        self.inquire = self._inquire(storage, functions)
        self.estimate = self._estimate(storage, functions)
        self.http = http.HttpApi(
            self,
            "http",
            api_name=Stack.of(self).stack_name,
            create_default_stage=False,
            default_authorizer=HttpIamAuthorizer(),
            cors_preflight=_cors(stage),
        )
        self.stage = self._logged_stage(stage)
        self.route(http.HttpMethod.POST, self.submit, "/jobs")
        self.route(
            http.HttpMethod.GET,
            self.inquire,
            "/jobs",
            "/jobs/{job_id}",
            "/jobs/{job_id}/result",
            "/jobs/{job_id}/receipt",
            "/processors",
            "/usage",
        )
        self.route(http.HttpMethod.POST, self.estimate, "/estimate")
        self.client_policy = self._client_policy()

    def _submit(self, storage: Storage, functions: Functions) -> lambda_.Function:
        stage = functions.stage
        return functions.declare(
            self,
            "submit",
            settings=Settings(
                data_bucket=storage.bucket.bucket_name,
                jobs_table=storage.jobs.table_name,
                max_upload_bytes=stage.max_upload_bytes,
                upload_window_seconds=stage.upload_window_seconds,
                retention_days=stage.retention_days,
                worker_seconds=stage.worker_timeout_seconds,
            ),
            grants=[
                allow("dynamodb:PutItem", on=storage.jobs.table_arn),
                allow("s3:PutObject", on=storage.objects("input/data")),
            ],
            timeout=Duration.seconds(10),
            memory=WHOLE_CPU,  # the time limit on checking options is one of the clock, not of the processor
        )

    def _inquire(self, storage: Storage, functions: Functions) -> lambda_.Function:
        stage = functions.stage
        return functions.declare(
            self,
            "inquire",
            settings=Settings(
                data_bucket=storage.bucket.bucket_name,
                jobs_table=storage.jobs.table_name,
                flow_table=storage.flow.table_name,
                max_running_jobs=stage.running_jobs,
                max_running_jobs_per_tenant=stage.max_running_jobs_per_tenant,
            ),
            grants=[
                allow("dynamodb:GetItem", on=storage.flow.table_arn),  # what a job waits for, and budgets
                allow("dynamodb:GetItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("dynamodb:Query", on=storage.index(BY_TENANT)),
                allow("s3:GetObjectVersion", on=[storage.objects("output/*"), storage.objects("receipt/*")]),
            ],
            timeout=Duration.seconds(10),
        )

    def _estimate(self, storage: Storage, functions: Functions) -> lambda_.Function:
        stage = functions.stage
        return functions.declare(
            self,
            "estimate",
            settings=Settings(
                flow_table=storage.flow.table_name,
                max_upload_bytes=stage.max_upload_bytes,
                max_workers=stage.workers,
                worker_seconds=stage.worker_timeout_seconds,
            ),
            grants=[allow("dynamodb:GetItem", on=storage.flow.table_arn, conditions=storage.only_items("PROVIDER#*"))],
            timeout=Duration.seconds(10),
            memory=WHOLE_CPU,  # the processor's own code reads the sample
        )

    def _logged_stage(self, stage: DeploymentSettings) -> http.HttpStage:
        deployed = http.HttpStage(
            self,
            "stage",
            http_api=self.http,
            stage_name="$default",
            auto_deploy=True,
            throttle=http.ThrottleSettings(rate_limit=stage.api_requests_per_second, burst_limit=stage.api_burst),
        )
        cast(http.CfnStage, deployed.node.default_child).access_log_settings = http.CfnStage.AccessLogSettingsProperty(
            destination_arn=vended_log_group(self, "access-logs", stage, service="apigateway").log_group_arn,
            format=json.dumps({name: f"$context.{name}" for name in _LOGGED}),
        )
        return deployed

    def route(self, method: http.HttpMethod, function: lambda_.Function, *paths: str) -> None:
        """Send requests for these paths to the function."""
        # One permission covers all routes of the function.
        integration = HttpLambdaIntegration(function.node.id, function, scope_permission_to_route=False)
        for path in paths:
            self.http.add_routes(path=path, methods=[method], integration=integration)

    def _client_policy(self) -> iam.ManagedPolicy:
        stack = Stack.of(self)
        grants = [
            allow("execute-api:Invoke", on=self.http.arn_for_execute_api("*", "/*", "$default")),
            describe_stack(stack),  # the client reads the API's URL from the stack's outputs
        ]
        policy = iam.ManagedPolicy(
            self, "client", description=f"Lets its bearer use the API of {stack.stack_name}.", statements=grants
        )
        accept_patterns(
            policy,
            "Every route of this one API. Whose job a request is about, the functions check. A stack's ARN ends in an "
            "ID that AWS makes up.",
            grants,
        )
        return policy


_LOGGED = (
    "requestId",
    "requestTime",
    "httpMethod",
    "routeKey",
    "status",
    "responseLatency",
    "integrationErrorMessage",
    "identity.sourceIp",
    "identity.userArn",
)


def _cors(stage: DeploymentSettings) -> http.CorsPreflightOptions | None:
    if not stage.cors_origins:
        return None
    return http.CorsPreflightOptions(
        allow_origins=list(stage.cors_origins),
        allow_methods=[http.CorsHttpMethod.GET, http.CorsHttpMethod.POST],
        allow_headers=[
            "authorization",
            "content-type",
            "idempotency-key",
            "x-amz-date",
            "x-amz-content-sha256",
            "x-amz-security-token",
        ],
    )
