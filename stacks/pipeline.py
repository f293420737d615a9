"""A whole deployment, in the order in which a file passes through it."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from backhaul.operations.connection import NO_CAP, REMEMBERED
from backhaul.operations.contents import Queue
from backhaul.operations.destroying import DESCRIPTION
from stacks.alarms import Alarms
from stacks.announcements import Announcements
from stacks.api import Api
from stacks.commands import Commands
from stacks.dead_letters import DeadLetters
from stacks.function import Functions
from stacks.intake import Intake
from stacks.operators import Operators
from stacks.recovery import Recovery
from stacks.stage import DeploymentSettings
from stacks.storage import Storage
from stacks.waking import Waking
from stacks.workers import Workers
from stacks.workflow import Workflow

_UNCHECKED = ["W3005"]
"""W3005 is about dependencies said twice. The CDK says each of a role's twice, on purpose."""


class Pipeline(Stack):
    """One deployment of Backhaul; `code` is the asset that every function runs."""

    def __init__(self, scope: Construct, *, stage: DeploymentSettings, code: lambda_.Code) -> None:
        super().__init__(
            scope,
            stage.stack_name,
            description=DESCRIPTION,
            termination_protection=stage.keeps_data,
            analytics_reporting=False,  # the template holds only what is declared here
        )
        self.template_options.metadata = {
            "cfn-lint": {"config": {"ignore_checks": _UNCHECKED}},
            # Not an output: callers may read those, and these name people. `make deploy` compares them.
            REMEMBERED: stage.remembered(),
        }

        functions = Functions(stage, code)
        storage = Storage(self, "storage", stage=stage)
        dead_letters = DeadLetters(self, "dead-letters")
        api = Api(self, "api", storage=storage, functions=functions)
        failed = dead_letters[Queue.FAILED_CHUNKS]
        workers = Workers(self, "workers", storage=storage, functions=functions, failed_chunks=failed)
        workflow = Workflow(self, "workflow", stage=stage, storage=storage, workers=workers)
        unread, unsaid = dead_letters[Queue.INTAKE], dead_letters[Queue.ANNOUNCE]
        intake = Intake(self, "intake", storage=storage, workflow=workflow, functions=functions, dead_letters=unread)
        announcements = Announcements(self, "announcements", storage=storage, functions=functions, dead_letters=unsaid)
        announcements.wake_at_job_end(intake.dispatch)  # a slot is free, and the next job may start
        recovery = Recovery(self, "recovery", storage=storage, workflow=workflow, functions=functions)
        Waking(self, "waking", storage=storage, functions=functions)
        Commands(self, "commands", api=api, storage=storage, workflow=workflow, functions=functions)
        alarms = Alarms(self, "alarms", stage=stage, dead_letters=dead_letters.queues, sweep=recovery.sweep)
        operators = Operators(
            self,
            "operators",
            storage=storage,
            workflow=workflow,
            intake=intake.queue,
            dead_letters=list(dead_letters.queues.values()),
            bus=announcements.bus,
            alarms=alarms.topic,
        )

        addresses = _addresses(storage, api, workflow, intake, announcements, alarms, operators)
        for name, value in (addresses | dead_letters.outputs() | _limits(stage)).items():
            CfnOutput(self, name, value=value)


def _addresses(
    storage: Storage,
    api: Api,
    workflow: Workflow,
    intake: Intake,
    announcements: Announcements,
    alarms: Alarms,
    operators: Operators,
) -> dict[str, str]:
    return {
        "ApiUrl": api.stage.url,
        "ApiId": api.http.api_id,
        "ClientPolicyArn": api.client_policy.managed_policy_arn,
        "DataBucketName": storage.bucket.bucket_name,
        "JobsTableName": storage.jobs.table_name,
        "FlowTableName": storage.flow.table_name,
        "IntakeQueueUrl": intake.queue.queue_url,
        "StateMachineArn": workflow.state_machine.state_machine_arn,
        "EventBusName": announcements.bus.event_bus_name,
        "AlarmTopicArn": alarms.topic.topic_arn,
        "OperatorPolicyArn": operators.policy.managed_policy_arn,
    }


def _limits(stage: DeploymentSettings) -> dict[str, str]:
    return {
        # What an operator's command starts keeps to the same limits, and what it tells of a day has the same caps.
        "MaxRunningJobs": str(stage.running_jobs),
        "MaxRunningJobsPerTenant": str(stage.max_running_jobs_per_tenant),
        "MaxWorkersPerJob": str(stage.workers),
        "ReservedWorkers": str(stage.reserved_workers or 0),
        "MaxCostPerDay": stage.max_cost_per_day or NO_CAP,
        "MaxCostPerDayPerTenant": stage.max_cost_per_day_per_tenant or NO_CAP,
    }
