"""A caller's commands on a job that exists: cancel it, redrive its missing chunks, raise its budget."""

from __future__ import annotations

from dataclasses import replace

from aws_cdk import Duration
from aws_cdk import aws_apigatewayv2 as http
from constructs import Construct

from backhaul.store.job_index import QUEUED, QUEUED_BY_TENANT
from stacks.api import Api
from stacks.function import Functions
from stacks.grants import allow
from stacks.storage import Storage
from stacks.workflow import Workflow


class Commands(Construct):
    """The function of these commands, declared apart from the other functions of the API because it starts runs."""

    def __init__(
        self, scope: Construct, name: str, *, api: Api, storage: Storage, workflow: Workflow, functions: Functions
    ) -> None:
        super().__init__(scope, name)
        self.command = functions.declare(
            self,
            "command",
            settings=replace(workflow.admission, data_bucket=storage.bucket.bucket_name),
            grants=[
                allow(
                    "dynamodb:GetItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:PutItem",  # the end of the last run, which a redrive stores
                    "dynamodb:Query",
                    on=storage.jobs.table_arn,
                ),
                allow("dynamodb:Query", on=[storage.index(each) for each in (QUEUED, QUEUED_BY_TENANT)]),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem", on=storage.flow.table_arn),
                allow("states:StartExecution", on=workflow.state_machine.state_machine_arn),
                allow("s3:GetObjectVersion", on=[storage.objects("plan/*"), storage.objects("input/data")]),
            ],
            timeout=Duration.seconds(29),  # the API waits for thirty seconds
        )
        of_job = [f"/jobs/{{job_id}}/{what}" for what in ("cancel", "redrive", "budget")]
        api.route(http.HttpMethod.POST, self.command, *of_job)
