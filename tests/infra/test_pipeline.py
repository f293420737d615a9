"""The template: what is stored and how, what wakes what, and what differs between stages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from backhaul.model import keys
from backhaul.model.events import SOURCE
from backhaul.model.job import JobRef
from backhaul.model.settings import Settings
from backhaul.operations.connection import REMEMBERED
from backhaul.operations.contents import Queue
from backhaul.store import breakers
from backhaul.store.job_index import BY_TENANT, DUE, QUEUED, QUEUED_BY_TENANT
from tests.infra.conftest import build
from tests.infra.template import Template, grant, listed, text
from tests.infra.test_settings import settings

MAX_RESOURCES = 110
"""Of the 500 that CloudFormation takes. Who passes this has added a construct without looking at what it brings."""
STATEFUL = ("S3::Bucket", "DynamoDB::Table", "Logs::LogGroup")
JOB = JobRef("AIDAEXAMPLE", "01jd0000000000000000000000")


def test_there_are_few_resources_and_no_custom_ones(template: Template):
    kinds = [each["Type"] for each in template.document["Resources"].values()]
    assert len(kinds) <= MAX_RESOURCES
    assert not [kind for kind in kinds if kind.startswith("Custom::") or "CustomResource" in kind]


def test_outputs_name_what_clients_and_operators_need(template: Template):
    assert set(template.document["Outputs"]) == {
        "ApiUrl",
        "ApiId",
        "ClientPolicyArn",
        "DataBucketName",
        "JobsTableName",
        "FlowTableName",
        "MaxRunningJobs",
        "MaxRunningJobsPerTenant",
        "MaxWorkersPerJob",
        "ReservedWorkers",
        "MaxCostPerDay",
        "MaxCostPerDayPerTenant",
        "IntakeQueueUrl",
        "StateMachineArn",
        "EventBusName",
        *(queue.kind.output for queue in Queue),
        "AlarmTopicArn",
        "OperatorPolicyArn",
    }


def test_outputs_tell_operators_what_a_day_may_cost(template: Template, synthesize: Callable[..., Template]):
    def caps(template: Template) -> list[str]:
        return [template.document["Outputs"][name]["Value"] for name in ("MaxCostPerDay", "MaxCostPerDayPerTenant")]

    assert caps(template) == ["any", "any"]
    assert caps(synthesize(max_cost_per_day="50", max_cost_per_day_per_tenant="2.50")) == ["50", "2.50"]


class TestStorage:
    def test_files_are_versioned_encrypted_private_and_logged(self, template: Template):
        bucket = template.properties("S3::Bucket", "storagedata")
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        assert text(bucket["LoggingConfiguration"]["DestinationBucketName"]) == "<storageaccesslogs>"
        for each in template.of_type("S3::Bucket").values():
            assert all(each["Properties"]["PublicAccessBlockConfiguration"].values())
            assert len(each["Properties"]["PublicAccessBlockConfiguration"]) == 4

    def test_buckets_and_queues_refuse_plain_http(self, template: Template):
        def denies_http(policy: dict[str, Any]) -> bool:
            return any(
                each["Effect"] == "Deny" and each.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
                for each in policy["Properties"]["PolicyDocument"]["Statement"]
            )

        for kind, owner, policies in (
            ("S3::Bucket", "Bucket", "S3::BucketPolicy"),
            ("SQS::Queue", "Queues", "SQS::QueuePolicy"),
        ):
            denying = [each for each in template.of_type(policies).values() if denies_http(each)]
            covered = {text(each) for policy in denying for each in listed(policy["Properties"][owner])}
            assert covered == {f"<{name}>" for name in template.of_type(kind)}

    def test_what_nobody_needs_any_more_expires(self, synthesize: Callable[..., Template]):
        bucket = synthesize(retention_days=9).properties("S3::Bucket", "storagedata")
        rules = {rule.pop("Id"): rule for rule in json.loads(json.dumps(bucket["LifecycleConfiguration"]["Rules"]))}
        assert rules == {
            "uploads": {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}, "Status": "Enabled"},
            "scratch": {"ExpirationInDays": 1, "Prefix": "scratch/", "Status": "Enabled"},
            "jobs": {"ExpirationInDays": 9, "Prefix": "t/", "Status": "Enabled"},
            "overwritten": {"NoncurrentVersionExpiration": {"NoncurrentDays": 9}, "Status": "Enabled"},
            "markers": {"ExpiredObjectDeleteMarker": True, "Status": "Enabled"},
        }

    def test_web_pages_may_upload_only_from_the_origins_that_the_stage_names(self, synthesize: Callable[..., Template]):
        open_to_none, open_to_one = synthesize(), synthesize(cors_origins="https://app.example")
        assert "CorsConfiguration" not in open_to_none.properties("S3::Bucket", "storagedata")
        assert "CorsConfiguration" not in open_to_none.properties("ApiGatewayV2::Api", "apihttp")
        (rule,) = open_to_one.properties("S3::Bucket", "storagedata")["CorsConfiguration"]["CorsRules"]
        assert (rule["AllowedOrigins"], rule["AllowedMethods"]) == (["https://app.example"], ["GET", "POST"])
        api = open_to_one.properties("ApiGatewayV2::Api", "apihttp")
        assert api["CorsConfiguration"]["AllowOrigins"] == ["https://app.example"]

    def test_tables_are_billed_by_use_recoverable_and_forget(self, template: Template):
        for table in template.of_type("DynamoDB::Table").values():
            properties = table["Properties"]
            assert properties["BillingMode"] == "PAY_PER_REQUEST"
            assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
            assert _key(properties) == {"pk": "HASH", "sk": "RANGE"}

    def test_the_jobs_table_has_a_stream_and_the_indexes_that_the_store_queries(self, template: Template):
        jobs = template.properties("DynamoDB::Table", "storagejobs")
        assert jobs["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}
        indexes = {each["IndexName"]: each for each in jobs["GlobalSecondaryIndexes"]}
        assert {name: _key(each) for name, each in indexes.items()} == {
            BY_TENANT: {"tenant": "HASH", "job_id": "RANGE"},
            DUE: {"open_state": "HASH", "due_at": "RANGE"},
            QUEUED: {"queue": "HASH", "turn": "RANGE"},
            QUEUED_BY_TENANT: {"tenant": "HASH", "turn": "RANGE"},
        }
        assert {name: each["Projection"]["ProjectionType"] for name, each in indexes.items()} == {
            BY_TENANT: "ALL",
            DUE: "ALL",
            QUEUED: "KEYS_ONLY",
            QUEUED_BY_TENANT: "INCLUDE",
        }
        assert indexes[QUEUED_BY_TENANT]["Projection"]["NonKeyAttributes"] == ["queue"]


class TestIntake:
    def test_an_upload_wakes_the_queue_and_no_other_object_does(self, template: Template):
        bucket = template.properties("S3::Bucket", "storagedata")
        (notification,) = bucket["NotificationConfiguration"]["QueueConfigurations"]
        rules = {rule["Name"]: rule["Value"] for rule in notification["Filter"]["S3Key"]["Rules"]}
        assert (notification["Event"], text(notification["Queue"])) == ("s3:ObjectCreated:*", "<intakequeue.Arn>")

        def wakes(key: str) -> bool:
            return key.startswith(rules["prefix"]) and key.endswith(rules["suffix"])

        assert wakes(keys.input_key(JOB))
        others = (
            keys.plan_key(JOB, 1),
            keys.result_key(JOB, 0, 1, 0),
            keys.output_key(JOB, 1, "5eed"),
            keys.receipt_key(JOB, 1, "5eed"),
        )
        assert not any(wakes(key) for key in others)

    def test_only_this_bucket_may_send_to_the_queue_and_may_before_it_exists(self, template: Template):
        policy = template.properties("SQS::QueuePolicy", "intakequeuePolicy")["PolicyDocument"]
        (allowed,) = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
        bucket = template.of_type("S3::Bucket")["storagedata"]
        assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
        assert text(allowed["Condition"]["ArnEquals"]["aws:SourceArn"]) == (
            f"arn:<AWS::Partition>:s3:::{text(bucket['Properties']['BucketName'])}"
        )
        (needed,) = bucket["DependsOn"]
        assert needed in template.document["Resources"]
        assert needed.startswith("intakequeuePolicy")

    def test_a_message_gets_five_tries_and_time_for_each(self, template: Template):
        queue = template.properties("SQS::Queue", "intakequeue")
        assert queue["RedrivePolicy"]["maxReceiveCount"] == 5
        assert text(queue["RedrivePolicy"]["deadLetterTargetArn"]) == "<intakedeadletters.Arn>"
        assert queue["VisibilityTimeout"] >= 6 * template.functions()["dispatch"]["Timeout"]
        fortnight = 14 * 24 * 3600
        assert template.properties("SQS::Queue", "intakedeadletters")["MessageRetentionPeriod"] == fortnight

    def test_one_bad_message_fails_alone(self, template: Template):
        mapping = _mapping(template, "intakedispatch")
        assert text(mapping["EventSourceArn"]) == "<intakequeue.Arn>"
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


class TestAnnouncements:
    @pytest.mark.parametrize(("table", "sort_key"), [("jobs", keys.JOB_SORT_KEY), ("flow", breakers.SORT_KEY)])
    def test_announce_reads_what_became_of_jobs_and_breakers_and_nothing_else(self, template, table, sort_key):
        mappings = {text(each["EventSourceArn"]): each for each in _mappings(template, "announcementsannounce")}
        assert set(mappings) == {"<storagejobs.StreamArn>", "<storageflow.StreamArn>"}
        (pattern,) = mappings[f"<storage{table}.StreamArn>"]["FilterCriteria"]["Filters"]
        assert json.loads(pattern["Pattern"]) == {
            "eventName": ["INSERT", "MODIFY"],
            "dynamodb": {"Keys": {"sk": {"S": [sort_key]}}},
        }

    @pytest.mark.parametrize("number", [0, 1])
    def test_a_change_that_cannot_be_announced_is_found_kept_and_passed(self, template: Template, number: int):
        mapping = _mappings(template, "announcementsannounce")[number]
        assert mapping["BisectBatchOnFunctionError"] is True
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        assert mapping["MaximumRetryAttempts"] == 25
        assert mapping["StartingPosition"] == "TRIM_HORIZON"
        assert text(mapping["DestinationConfig"]["OnFailure"]["Destination"]) == "<announcementsdeadletters.Arn>"

    def test_a_jobs_end_wakes_dispatch_because_a_slot_is_free(self, template: Template):
        rule = template.properties("Events::Rule", "announcementsjobended")
        assert text(rule["EventBusName"]) == "<announcementsbus>"
        assert rule["EventPattern"]["source"] == [SOURCE]
        assert set(rule["EventPattern"]["detail-type"]) == {
            "Job Succeeded",
            "Job Partial",
            "Job Paused",
            "Job Failed",
            "Job Cancelled",
            "Job Expired",
        }
        assert [text(each["Arn"]) for each in rule["Targets"]] == ["<intakedispatch.Arn>"]


class TestRecovery:
    def test_a_run_that_ends_badly_wakes_the_sweep(self, template: Template):
        rule = template.properties("Events::Rule", "recoveryrunendedbadly")
        assert rule["EventPattern"]["source"] == ["aws.states"]
        assert rule["EventPattern"]["detail-type"] == ["Step Functions Execution Status Change"]
        assert rule["EventPattern"]["detail"]["status"] == ["FAILED", "TIMED_OUT", "ABORTED"]
        assert text(rule["EventPattern"]["detail"]["stateMachineArn"][0]) == "<workflowrun>"
        assert [text(each["Arn"]) for each in rule["Targets"]] == ["<recoverysweep.Arn>"]
        assert "EventBusName" not in rule  # Step Functions tells the default bus

    def test_the_sweep_comes_every_minute_and_is_over_before_the_next(self, template: Template):
        rule = template.properties("Events::Rule", "recoveryeveryminute")
        assert rule["ScheduleExpression"] == "rate(1 minute)"
        assert [text(each["Arn"]) for each in rule["Targets"]] == ["<recoverysweep.Arn>"]
        assert template.functions()["sweep"]["Timeout"] < 60


class TestApi:
    def test_every_route_wants_a_signature(self, template: Template):
        routes = [each["Properties"] for each in template.of_type("ApiGatewayV2::Route").values()]
        assert {route["RouteKey"] for route in routes} == {
            "POST /jobs",
            "GET /jobs",
            "GET /jobs/{job_id}",
            "GET /jobs/{job_id}/result",
            "GET /jobs/{job_id}/receipt",
            "GET /processors",
            "GET /usage",
            "POST /jobs/{job_id}/cancel",
            "POST /jobs/{job_id}/redrive",
            "POST /jobs/{job_id}/budget",
            "POST /estimate",
        }
        assert {route["AuthorizationType"] for route in routes} == {"AWS_IAM"}

    def test_a_request_about_a_job_that_exists_goes_to_the_function_that_may_stop_and_start_it(
        self, template: Template
    ):
        def function_of(route: str) -> str:
            (target,) = [
                text(each["Properties"]["Target"])
                for each in template.of_type("ApiGatewayV2::Route").values()
                if each["Properties"]["RouteKey"] == route
            ]
            name = target.removeprefix("integrations/<").removesuffix(">")
            return text(template.properties("ApiGatewayV2::Integration", name)["IntegrationUri"])

        for what in ("cancel", "redrive", "budget"):
            assert function_of(f"POST /jobs/{{job_id}}/{what}") == "<commandscommand.Arn>"
        assert function_of("POST /jobs") == "<apisubmit.Arn>"
        assert function_of("POST /estimate") == "<apiestimate.Arn>"
        assert template.functions()["command"]["Timeout"] < 30  # the API's own

    def test_calls_are_limited_and_logged(self, template: Template):
        stage = template.properties("ApiGatewayV2::Stage", "apistage")
        assert stage["DefaultRouteSettings"] == {"ThrottlingBurstLimit": 200, "ThrottlingRateLimit": 100}
        assert text(stage["AccessLogSettings"]["DestinationArn"]) == "<apiaccesslogs.Arn>"
        assert _log_name(template, "apiaccesslogs") == "/aws/vendedlogs/apigateway/Backhaul-dev-<stack ID>"
        assert json.loads(stage["AccessLogSettings"]["Format"])["routeKey"] == "$context.routeKey"

    def test_how_much_the_api_takes_is_a_setting(self, synthesize: Callable[..., Template]):
        stage = synthesize(api_requests_per_second="7", api_burst="9").properties("ApiGatewayV2::Stage", "apistage")
        assert stage["DefaultRouteSettings"] == {"ThrottlingBurstLimit": 9, "ThrottlingRateLimit": 7}

    def test_the_clients_policy_opens_this_api_and_the_way_to_it_and_nothing_else(self, template: Template):
        arn = "arn:<AWS::Partition>:{}:<AWS::Region>:<AWS::AccountId>:{}"
        assert [grant(each) for name, each in template.statements() if name == "apiclient"] == [
            (["execute-api:Invoke"], [arn.format("execute-api", "<apihttp>/$default/*/*")]),
            (["cloudformation:DescribeStacks"], [arn.format("cloudformation", "stack/Backhaul-dev/*")]),
        ]


class TestStages:
    def test_production_keeps_its_data_and_cannot_be_deleted_by_mistake(self, synthesize: Callable[..., Template]):
        prod = synthesize(stage="prod")
        for kind in STATEFUL:
            assert {each["DeletionPolicy"] for each in prod.of_type(kind).values()} == {"RetainExceptOnCreate"}
            assert {each["UpdateReplacePolicy"] for each in prod.of_type(kind).values()} == {"Retain"}
        assert [build(stage=stage)[1].termination_protection for stage in ("prod", "dev")] == [True, False]

    def test_cloudformation_can_take_back_everything_that_a_failed_first_deployment_made(
        self, synthesize: Callable[..., Template]
    ):
        for resource in synthesize(stage="prod").document["Resources"].values():
            assert resource.get("DeletionPolicy") != "Retain"
            assert not resource.get("Properties", {}).get("DeletionProtectionEnabled")

    def test_a_development_stage_goes_with_its_data(self, template: Template):
        for kind in STATEFUL:
            assert {each["DeletionPolicy"] for each in template.of_type(kind).values()} == {"Delete"}

    def test_production_keeps_logs_for_longer(self, synthesize: Callable[..., Template]):
        def retention(stage: str) -> set[int]:
            groups = synthesize(stage=stage).of_type("Logs::LogGroup").values()
            return {each["Properties"]["RetentionInDays"] for each in groups}

        assert (retention("dev"), retention("local"), retention("prod")) == ({7}, {7}, {90})

    def test_the_local_cloud_gets_the_development_template_with_fewer_workers_and_near_providers(
        self, synthesize: Callable[..., Template]
    ):
        def shape(stage: str) -> str:
            document = json.dumps(synthesize(stage=stage, max_concurrency=9).document)
            document = document.replace(', "Null": {"dynamodb:LeadingKeys": "false"}', "")  # that IAM never knows it
            document = document.replace('"BACKHAUL_LOCAL_PROVIDERS": "True", ', "")
            plain = "60" if stage == "local" else "10"  # there the sweep ends waits, whose time-outs it does not know
            document = document.replace(f'NumericGreaterThan\\":{plain}', "")
            return re.sub(rf"[0-9A-F]{{8,}}|-?{stage}", "", document)

        def workers(stage: str) -> int:
            concurrency: int = synthesize(stage=stage).state_machine()["States"]["shards"]["MaxConcurrency"]
            return concurrency

        def near(stage: str) -> bool:
            variables = synthesize(stage=stage).properties("Lambda::Function", "workersprocess")["Environment"]
            return variables["Variables"].get("BACKHAUL_LOCAL_PROVIDERS") == "True"

        assert shape("local") == shape("dev")
        assert (near("local"), near("dev"), near("prod")) == (True, False, False)
        assert (workers("local"), workers("dev")) == (4, 100)

    def test_a_template_remembers_what_it_was_told_and_not_where_callers_read(
        self, synthesize: Callable[..., Template]
    ):
        told = synthesize(alarm_emails="ops@example.com", account_concurrency=50)
        remembered = told.document["Metadata"][REMEMBERED]
        assert remembered == settings(alarm_emails="ops@example.com", account_concurrency=50).remembered()
        assert remembered["reserved_workers"] == ""
        assert "ops@example.com" not in str(told.document["Outputs"])

    def test_a_small_account_gets_fewer_workers_jobs_and_dispatchers(self, synthesize: Callable[..., Template]):
        small = synthesize(account_concurrency=10)
        (queue,) = [each for each in _sources(small) if "ScalingConfig" in each]
        assert queue["ScalingConfig"] == {"MaximumConcurrency": 2}
        assert text(queue["EventSourceArn"]) == "<intakequeue.Arn>"
        assert small.state_machine()["States"]["shards"]["MaxConcurrency"] == 2
        assert [small.document["Outputs"][name]["Value"] for name in ("MaxRunningJobs", "MaxWorkersPerJob")] == [
            "2",
            "2",
        ]
        assert small.functions()["estimate"]["Environment"]["Variables"]["BACKHAUL_MAX_WORKERS"] == "2"
        for starter in ("dispatch", "sweep", "command", "inquire"):
            assert small.functions()[starter]["Environment"]["Variables"]["BACKHAUL_MAX_RUNNING_JOBS"] == "2"
        assert not [each for each in _sources(synthesize()) if "ScalingConfig" in each]

    def test_another_name_makes_another_deployment(self, synthesize: Callable[..., Template]):
        bucket = synthesize(name="Second").properties("S3::Bucket", "storagedata")["BucketName"]
        assert text(bucket) == "second-dev-data-<AWS::AccountId>-<AWS::Region>"

    def test_a_bucket_name_is_never_too_long(self, synthesize: Callable[..., Template]):
        bucket = synthesize(name="A" * 24, stage="local").properties("S3::Bucket", "storagedata")["BucketName"]
        longest = text(bucket).replace("<AWS::AccountId>", "1" * 12).replace("<AWS::Region>", "ap-southeast-5")
        assert len(longest) <= 63


class TestFunctions:
    def test_no_log_group_has_a_name_of_its_own_but_those_that_aws_services_write_to(self, template: Template):
        named = {name: each["Properties"] for name, each in template.of_type("Logs::LogGroup").items()}
        assert {name for name, each in named.items() if "LogGroupName" in each} == {"apiaccesslogs", "workflowrunlogs"}
        assert _log_name(template, "workflowrunlogs") == "/aws/vendedlogs/states/Backhaul-dev-<stack ID>"

    def test_there_is_one_for_each_stage_and_it_is_declared_the_one_way(self, template: Template):
        for name, function in template.functions().items():
            assert function["Handler"] == f"lambdas.{name}.handler"
            assert function["Architectures"] == ["arm64"]
            assert function["Runtime"] == "python3.13"
            # A timer calls the sweep each minute, and X-Ray would bill a trace for each call.
            assert function.get("TracingConfig") == (None if name == "sweep" else {"Mode": "Active"})
            assert "ReservedConcurrentExecutions" not in function
            assert text(function["LoggingConfig"]["LogGroup"]) in {
                f"<{each}>" for each in template.of_type("Logs::LogGroup")
            }

    def test_time_and_memory_fit_the_work(self, template: Template):
        assert {name: (each["Timeout"], each["MemorySize"]) for name, each in template.functions().items()} == {
            "submit": (10, 1769),
            "inquire": (10, 256),
            "estimate": (10, 1769),
            "dispatch": (30, 256),
            "plan": (300, 1769),
            "process": (300, 1769),
            "merge": (900, 1769),
            "conclude": (30, 256),
            "park": (30, 256),
            "wake": (30, 256),
            "announce": (30, 256),
            "sweep": (50, 256),
            "command": (29, 256),
        }

    def test_how_long_a_worker_can_hang_is_a_setting(self, synthesize: Callable[..., Template]):
        functions = synthesize(worker_timeout_seconds=45).functions()
        assert (functions["process"]["Timeout"], functions["merge"]["Timeout"]) == (45, 900)

    def test_workers_can_have_a_part_of_the_account_of_their_own(self, synthesize: Callable[..., Template]):
        functions = synthesize(reserved_workers=300).functions()
        reserved = {name: each.get("ReservedConcurrentExecutions") for name, each in functions.items()}
        assert {name: each for name, each in reserved.items() if each} == {"process": 300}

    def test_logs_and_metrics_bear_the_name_of_their_deployment(self, synthesize: Callable[..., Template]):
        template = synthesize(name="Second", stage="prod")
        for function in template.functions().values():
            assert _environment(function)["POWERTOOLS_SERVICE_NAME"] == "Second-prod"
        watched = [each["Properties"] for each in template.of_type("CloudWatch::Alarm").values()]
        named = [each["Dimensions"] for each in watched if each["Namespace"] == "Backhaul"]
        assert named == [[{"Name": "service", "Value": "Second-prod"}]] * 2

    def test_their_environment_is_settings_that_they_can_read(self, synthesize: Callable[..., Template]):
        functions = synthesize(
            max_upload_bytes=1000,
            upload_window_seconds=60,
            retention_days=2,
            max_running_jobs=7,
            max_running_jobs_per_tenant=3,
            max_cost_per_day="50",
            max_cost_per_day_per_tenant="2.50",
        ).functions()
        settings = {name: Settings.from_env(_environment(each)) for name, each in functions.items()}
        assert settings["submit"] == Settings(
            data_bucket="<storagedata>",
            jobs_table="<storagejobs>",
            max_upload_bytes=1000,
            upload_window_seconds=60,
            retention_days=2,
        )
        admission = Settings(
            jobs_table="<storagejobs>",
            flow_table="<storageflow>",
            state_machine_arn="<workflowrun>",
            max_running_jobs=7,
            max_running_jobs_per_tenant=3,
        )
        assert settings["dispatch"] == admission
        assert settings["sweep"] == settings["command"] == replace(admission, data_bucket="<storagedata>")
        stored = Settings(data_bucket="<storagedata>", jobs_table="<storagejobs>")
        assert settings["plan"] == stored
        assert settings["inquire"] == replace(admission, data_bucket="<storagedata>", state_machine_arn="")
        assert settings["estimate"] == Settings(flow_table="<storageflow>", max_upload_bytes=1000, max_workers=100)
        failing = replace(stored, failed_chunks_url="<workersfailedchunks>")
        paying = replace(failing, flow_table="<storageflow>")
        assert settings["merge"] == paying
        assert settings["process"] == replace(paying, max_cost_per_day="50", max_cost_per_day_per_tenant="2.50")
        assert settings["announce"] == Settings(data_bucket="<storagedata>", event_bus="<announcementsbus>")


def _log_name(template: Template, name: str) -> str:
    """Return the name of a log group; the stack's ID makes it unique."""
    stack_id = {"Fn::Select": [2, {"Fn::Split": ["/", {"Ref": "AWS::StackId"}]}]}
    (first, last) = template.properties("Logs::LogGroup", name)["LogGroupName"]["Fn::Join"][1]
    assert last == stack_id
    return f"{first}<stack ID>"


def _environment(function: dict[str, Any]) -> dict[str, str]:
    return {name: text(value) for name, value in function["Environment"]["Variables"].items()}


def _key(table_or_index: dict[str, Any]) -> dict[str, str]:
    return {each["AttributeName"]: each["KeyType"] for each in table_or_index["KeySchema"]}


def _mapping(template: Template, function: str) -> dict[str, Any]:
    (found,) = _mappings(template, function)
    return found


def _mappings(template: Template, function: str) -> list[dict[str, Any]]:
    mappings = [each["Properties"] for each in template.of_type("Lambda::EventSourceMapping").values()]
    return [each for each in mappings if text(each["FunctionName"]) == f"<{function}>"]


def _sources(template: Template) -> list[dict[str, Any]]:
    return [each["Properties"] for each in template.of_type("Lambda::EventSourceMapping").values()]
