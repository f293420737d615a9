"""One run of a job: plan → process, in parallel → merge. The order of the stages is written here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from backhaul.model.errors import StoreUnavailable
from backhaul.model.settings import Settings
from stacks.grants import allow, closed_role
from stacks.monitoring import vended_log_group
from stacks.review import accept, accept_patterns
from stacks.stage import DeploymentSettings
from stacks.storage import MAX_RUN, SCRATCH_PREFIX, Storage
from stacks.workers import Workers

SETTLING = Duration.seconds(15)
"""What the workers of a lost run have to learn of it and to commit: a beat and a checkpoint."""


class Workflow(Construct):
    """The state machine.

    A Task state is named after its function's file, or after the function in the stage's file that it calls.
    """

    def __init__(
        self, scope: Construct, name: str, *, stage: DeploymentSettings, storage: Storage, workers: Workers
    ) -> None:
        super().__init__(scope, name)
        self._stage = stage
        self._storage = storage
        self._workers = workers
        logs = vended_log_group(self, "run-logs", stage, service="states")
        role = self._role()
        self.state_machine = sfn.StateMachine(
            self,
            "run",
            definition_body=sfn.DefinitionBody.from_chainable(self._run(stage.workers)),
            timeout=MAX_RUN,
            role=role,
            tracing_enabled=True,
            logs=sfn.LogOptions(destination=logs, level=sfn.LogLevel.ERROR, include_execution_data=False),
        )
        accept(
            self.state_machine,
            "Step Functions keeps each run's history for 90 days; the log is for what went wrong, and ALL would bill "
            "an entry for each state of each child.",
            "AwsSolutions-SF1",
        )
        self._allow_children(role)

    @property
    def admission(self) -> Settings:
        """What a function must be told that starts runs: the slots, how many there are, and what to start."""
        return Settings(
            jobs_table=self._storage.jobs.table_name,
            flow_table=self._storage.flow.table_name,
            state_machine_arn=self.state_machine.state_machine_arn,
            max_running_jobs=self._stage.running_jobs,
            max_running_jobs_per_tenant=self._stage.max_running_jobs_per_tenant,
        )

    @property
    def executions(self) -> str:
        """The ARN pattern of every run."""
        name = f"{self.state_machine.state_machine_name}:*"
        return Stack.of(self).format_arn(
            service="states", resource="execution", resource_name=name, arn_format=ArnFormat.COLON_RESOURCE_NAME
        )

    def _allow_children(self, role: iam.IRole) -> None:
        # A policy of its own: inside the role it would name the machine, which needs the role first. It takes the
        # place of the CDK's, which the closed role refuses.
        self.state_machine.node.try_remove_child("DistributedMapPolicy")
        grants = [
            allow("states:StartExecution", on=self.state_machine.state_machine_arn),
            allow("states:DescribeExecution", "states:StopExecution", on=self.executions),
        ]
        policy = iam.Policy(self, "children", statements=grants, roles=[role])
        accept_patterns(policy, "The machine's own children, which are named at run time.", grants)

    def _run(self, concurrency: int) -> sfn.IChainable:
        """Plan, process and merge; or, for a run that died without a word, merge what it left."""
        plan = self._task("plan", self._workers.plan, result_path="$.plan")
        shards = self._shards(concurrency)
        merge = self._task("merge", self._workers.merge)
        plan.next(
            sfn.Choice(self, "planned?")
            .when(sfn.Condition.string_equals("$.plan.outcome", "planned"), shards.next(merge))
            .when(sfn.Condition.string_equals("$.plan.outcome", "complete"), merge)
            .otherwise(sfn.Succeed(self, "ended"))
        )
        conclude = self._task("conclude_run", self._workers.conclude, result_path=sfn.JsonPath.DISCARD)
        conclude.next(sfn.Fail(self, "failed", error_path="$.error.Error", cause_path="$.error.Cause"))
        for state in (plan, merge):
            _catch(state, conclude)
        # A map that failed as a whole has left results, and merge judges what is there and names what is missing.
        _catch(shards, merge)
        salvage = sfn.Condition.and_(
            sfn.Condition.is_present("$.salvage"), sfn.Condition.boolean_equals("$.salvage", True)
        )
        settle = sfn.Wait(self, "settle", time=sfn.WaitTime.duration(SETTLING))
        return sfn.Choice(self, "salvage?").when(salvage, settle.next(merge)).otherwise(plan)

    def _shards(self, concurrency: int) -> sfn.DistributedMap:
        """Hand each line of the plan to a child; one that fails fails nothing else, and merge says what is missing."""
        tenant, job_id = sfn.JsonPath.string_at("$.tenant"), sfn.JsonPath.string_at("$.job_id")
        shards = sfn.DistributedMap(
            self,
            "shards",
            label="shards",
            # Not Express: a child may wait, and work for longer than five minutes.
            map_execution_type=sfn.StateMachineType.STANDARD,
            max_concurrency=concurrency,
            tolerated_failure_percentage=100,
            item_reader=sfn.S3JsonLItemReader(
                bucket=self._storage.bucket, key=sfn.JsonPath.string_at("$.plan.plan_key")
            ),
            item_selector={
                "tenant": tenant,
                "job_id": job_id,
                "run": sfn.JsonPath.number_at("$.run"),
                "shard": sfn.JsonPath.object_at("$$.Map.Item.Value"),
            },
            # Together the children's answers could pass the payload limit. Nobody needs them: shard records tell all.
            result_writer_v2=sfn.ResultWriterV2(
                bucket=self._storage.bucket,
                prefix=sfn.JsonPath.format(f"{SCRATCH_PREFIX}t/{{}}/j/{{}}", tenant, job_id),
            ),
            result_path=sfn.JsonPath.DISCARD,
        )
        shards.item_processor(self._shard())
        _retry(shards, ["States.ItemReaderFailed", "States.ResultWriterFailed"])
        return shards

    def _shard(self) -> sfn.IChainable:
        process = self._task("process", self._workers.process, result_path="$.last")
        wait = sfn.Wait(self, "wait", time=sfn.WaitTime.seconds_path("$.last.seconds"))
        process.next(
            sfn.Choice(self, "finished?")
            .when(sfn.Condition.string_equals("$.last.outcome", "continue"), process)
            .when(self._is_long, self._park(process, wait))
            .when(sfn.Condition.string_equals("$.last.outcome", "wait"), wait.next(process))
            .otherwise(sfn.Succeed(self, "done"))
        )
        _catch(process, self._task("conclude_shard", self._workers.conclude))
        return process

    @property
    def _is_long(self) -> sfn.Condition:
        """Whether the wait is to be parked. Code of an older asset does not say for how long."""
        timeout = "$.last.timeout"
        longer = sfn.Condition.number_greater_than(timeout, self._stage.longest_plain_wait)
        return sfn.Condition.and_(sfn.Condition.is_present(timeout), longer)

    def _park(self, process: tasks.LambdaInvoke, wait: sfn.Wait) -> sfn.IChainable:
        """Wait until somebody answers the token, which the function stores where whoever changes something finds it.

        A shard whose token cannot be stored waits all the same.
        """
        park = tasks.LambdaInvoke(
            self,
            "park",
            lambda_function=self._workers.park,
            integration_pattern=sfn.IntegrationPattern.WAIT_FOR_TASK_TOKEN,
            payload=sfn.TaskInput.from_object({"token": sfn.JsonPath.task_token, "state": sfn.JsonPath.entire_payload}),
            task_timeout=sfn.Timeout.at("$.last.timeout"),
            retry_on_service_exceptions=False,
            result_path=sfn.JsonPath.DISCARD,
        )
        park.add_retry(errors=["States.Timeout"], max_attempts=0)  # the wait is over
        _retry(park, ["States.ALL"])
        park.add_catch(process, errors=["States.Timeout"], result_path=sfn.JsonPath.DISCARD)
        park.add_catch(wait, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        return park.next(process)

    def _task(self, name: str, function: lambda_.IFunction, **options: Any) -> tasks.LambdaInvoke:
        task = tasks.LambdaInvoke(
            self,
            name,
            lambda_function=function,
            payload_response_only=True,
            retry_on_service_exceptions=False,  # the retries below cover them
            **options,
        )
        _retry(task, [*_OUTAGES, StoreUnavailable.__name__], attempts=1000)
        _retry(task, ["States.ALL"])
        return task

    def _role(self) -> iam.IRole:
        storage, scratch = self._storage, self._storage.bucket.arn_for_objects(f"{SCRATCH_PREFIX}*")
        return closed_role(
            self,
            "run-role",
            service="states.amazonaws.com",
            grants=[
                allow("lambda:InvokeFunction", on=[worker.function_arn for worker in self._workers.all]),
                allow("s3:GetObject", on=storage.objects("plan/*")),
                allow("s3:GetObject", "s3:PutObject", on=scratch),
                allow("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", on=scratch),
                allow(*_LOG_DELIVERY, on="*"),
                allow(*_TRACING, on="*"),
            ],
            patterns="X-Ray and log delivery know no narrower resource. The other patterns are plans and scratch "
            "objects of any job: jobs are made at run time.",
        )


_OUTAGES = (
    "Lambda.TooManyRequestsException",
    "Lambda.ServiceException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
)
"""What says nothing of the work, like a store that is out of order: asking again costs no attempt that a crash may
need. Not `Lambda.AWSLambdaException`, which a refused permission may be too."""
_TRACING = (
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
)
_LOG_DELIVERY = (
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
)


def _retry(state: tasks.LambdaInvoke | sfn.DistributedMap, errors: Sequence[str], attempts: int = 5) -> None:
    state.add_retry(
        errors=errors,
        interval=Duration.seconds(1),
        backoff_rate=2,
        max_delay=Duration.seconds(60),
        jitter_strategy=sfn.JitterType.FULL,
        max_attempts=attempts,
    )


def _catch(state: tasks.LambdaInvoke | sfn.DistributedMap, handler: sfn.IChainable) -> None:
    # Step Functions leaves a payload that is too large out of States.ALL.
    for error in ("States.DataLimitExceeded", "States.ALL"):
        state.add_catch(handler, errors=[error], result_path="$.error")
