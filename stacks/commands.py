"""What a caller may ask of a job that exists: to cancel it, to do again what is missing, to let it cost more."""

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
    """The function of these requests. Not one of the API's own, because it starts runs."""

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
                    "dynamodb:PutItem",  # what came of the run that a redrive follows
                    "dynamodb:Query",
                    on=storage.jobs.table_arn,
                ),
                allow("dynamodb:Query", on=[storage.index(each) for each in (QUEUED, QUEUED_BY_TENANT)]),
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:PutItem", on=storage.flow.table_arn),
                allow("states:StartExecution", on=workflow.state_machine.state_machine_arn),
                allow("s3:GetObjectVersion", on=[storage.objects("plan/*"), storage.objects("input/data")]),
            ],
            timeout=Duration.seconds(29),  # the API waits for thirty
        )
        of_job = [f"/jobs/{{job_id}}/{what}" for what in ("cancel", "redrive", "budget")]
        api.route(http.HttpMethod.POST, self.command, *of_job)
