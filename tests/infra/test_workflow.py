"""The state machine: its order, its names, what it retries and where failures go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from backhaul.toolchain import PROJECT
from tests.infra.template import Template, text

STAGES = {path.stem for path in (PROJECT / "backhaul/stages").glob("*.py")} - {"__init__"}


@pytest.fixture
def run(template: Template) -> dict[str, Any]:
    return template.state_machine()


@pytest.fixture
def child(run: dict[str, Any]) -> dict[str, Any]:
    processor: dict[str, Any] = run["States"]["shards"]["ItemProcessor"]
    return processor


def states_of(definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, state in definition["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from states_of(state["ItemProcessor"])


def test_the_order_of_the_stages(run: dict[str, Any], child: dict[str, Any]):
    states = run["States"]
    assert run["StartAt"] == "salvage?"
    assert states["salvage?"]["Default"] == "plan"
    assert states["plan"]["Next"] == "planned?"
    assert states["planned?"]["Default"] == "ended"
    planned, complete = states["planned?"]["Choices"]
    assert (complete["StringEquals"], complete["Next"]) == ("complete", "merge")
    assert planned == {"Variable": "$.plan.outcome", "StringEquals": "planned", "Next": "shards"}
    assert child["StartAt"] == "process"
    assert states["shards"]["Next"] == "merge"
    assert states["merge"]["End"] is True


def test_a_run_that_died_without_a_word_is_merged_once_its_workers_have_left(run: dict[str, Any]):
    (salvage,) = run["States"]["salvage?"]["Choices"]
    assert salvage == {
        "And": [
            {"Variable": "$.salvage", "IsPresent": True},  # without it, asking for the value is an error
            {"Variable": "$.salvage", "BooleanEquals": True},
        ],
        "Next": "settle",
    }
    settle = run["States"]["settle"]
    assert (settle["Type"], settle["Seconds"], settle["Next"]) == ("Wait", 15, "merge")


def test_a_task_is_named_after_its_file_or_the_function_in_it(template: Template, run: dict[str, Any]):
    handlers = {
        f"<{name}.Arn>": each["Properties"]["Handler"].split(".")[1]
        for name, each in template.of_type("Lambda::Function").items()
    }
    tasks = {
        name: handlers[state.get("Parameters", {}).get("FunctionName", state["Resource"])]
        for name, state in states_of(run)
        if state["Type"] == "Task"
    }
    assert set(tasks.values()) == {"plan", "process", "merge", "conclude", "park"}
    for name, file in tasks.items():
        assert name == file or hasattr(import_module(f"backhaul.stages.{file}"), name)


def test_every_stage_has_its_function_and_its_handler(template: Template):
    handlers = {path.stem for path in (PROJECT / "lambdas").glob("*.py")}
    assert set(template.functions()) == STAGES
    assert handlers >= STAGES


def test_the_map_reads_the_plan_and_hands_out_one_line_each(run: dict[str, Any]):
    shards = run["States"]["shards"]
    assert shards["ItemReader"]["ReaderConfig"] == {"InputType": "JSONL"}
    assert shards["ItemReader"]["Parameters"] == {"Bucket": "<storagedata>", "Key.$": "$.plan.plan_key"}
    assert shards["ItemSelector"] == {
        "tenant.$": "$.tenant",
        "job_id.$": "$.job_id",
        "run.$": "$.run",
        "shard.$": "$$.Map.Item.Value",
    }


def test_the_map_is_distributed_over_standard_children_and_survives_their_failures(run: dict[str, Any]):
    shards = run["States"]["shards"]
    assert shards["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert shards["ToleratedFailurePercentage"] == 100
    assert shards["Label"] == "shards"


def test_what_children_answer_goes_to_scratch_and_not_into_the_state(run: dict[str, Any]):
    shards = run["States"]["shards"]
    assert shards["ResultPath"] is None
    assert shards["ResultWriter"]["Parameters"] == {
        "Bucket": "<storagedata>",
        "Prefix.$": "States.Format('scratch/t/{}/j/{}', $.tenant, $.job_id)",
    }


def test_concurrency_is_a_setting(synthesize: Callable[..., Template]):
    assert synthesize(max_concurrency=12).state_machine()["States"]["shards"]["MaxConcurrency"] == 12


def test_a_worker_is_called_again_until_it_is_done(child: dict[str, Any]):
    states = child["States"]
    assert states["process"]["ResultPath"] == "$.last"
    assert states["process"]["Next"] == "finished?"
    goes_on, parks, waits = states["finished?"]["Choices"]
    assert (goes_on["StringEquals"], goes_on["Next"]) == ("continue", "process")
    assert (waits["StringEquals"], waits["Next"]) == ("wait", "wait")
    assert parks == {
        "And": [
            {"Variable": "$.last.timeout", "IsPresent": True},  # code of an older asset does not say it
            {"Variable": "$.last.timeout", "NumericGreaterThan": 10},
        ],
        "Next": "park",
    }
    assert states["finished?"]["Default"] == "done"
    assert states["wait"] == {"Type": "Wait", "SecondsPath": "$.last.seconds", "Next": "process"}


CRASH = {
    "ErrorEquals": ["States.ALL"],
    "IntervalSeconds": 1,
    "BackoffRate": 2,
    "MaxDelaySeconds": 60,
    "JitterStrategy": "FULL",
    "MaxAttempts": 5,
}
OUTAGE = {
    **CRASH,
    "ErrorEquals": [
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.SdkClientException",
        "Lambda.ClientExecutionTimeoutException",
        "StoreUnavailable",
    ],
    "MaxAttempts": 1000,
}


def test_every_task_is_retried_with_patience_after_outages_and_a_few_times_after_crashes(
    run: dict[str, Any],
):
    tasks = {name: state for name, state in states_of(run) if state["Type"] == "Task"}
    park = tasks.pop("park")
    assert len(tasks) == 5
    assert all(task["Retry"] == [OUTAGE, CRASH] for task in tasks.values())
    over = {"ErrorEquals": ["States.Timeout"], "MaxAttempts": 0}
    assert park["Retry"] == [over, CRASH]


def test_a_long_wait_can_be_ended_by_its_token_and_ends_by_itself_when_its_time_is_over(child: dict[str, Any]):
    park = child["States"]["park"]
    assert park["Resource"] == "arn:<AWS::Partition>:states:::lambda:invoke.waitForTaskToken"
    assert park["Parameters"]["Payload"] == {"token.$": "$$.Task.Token", "state.$": "$"}
    assert (park["TimeoutSecondsPath"], park["ResultPath"], park["Next"]) == ("$.last.timeout", None, "process")
    assert [(each["ErrorEquals"], each["Next"], each["ResultPath"]) for each in park["Catch"]] == [
        (["States.Timeout"], "process", None),
        (["States.ALL"], "wait", None),  # its token could not be stored: it waits all the same
    ]


def test_shards_are_woken_by_what_the_streams_say_of_jobs_that_stop_and_of_providers(template: Template):
    sources = [
        each["Properties"]
        for each in template.of_type("Lambda::EventSourceMapping").values()
        if "wake" in text(each["Properties"]["FunctionName"])
    ]
    patterns = {
        text(each["EventSourceArn"]): [json.loads(one["Pattern"]) for one in each["FilterCriteria"]["Filters"]]
        for each in sources
    }
    assert all("ReportBatchItemFailures" in each["FunctionResponseTypes"] for each in sources)
    written = {"eventName": ["INSERT", "MODIFY"]}
    assert patterns == {
        "<storagejobs.StreamArn>": [
            {
                **written,
                "dynamodb": {
                    "Keys": {"sk": {"S": ["JOB"]}},
                    "NewImage": {"state": {"S": ["RUNNING"]}, "stop": {"M": {"kind": {"S": [{"exists": True}]}}}},
                },
            }
        ],
        "<storageflow.StreamArn>": [
            {**written, "dynamodb": {"Keys": {"sk": {"S": ["BREAKER"]}}, "NewImage": {"state": {"S": ["closed"]}}}},
            {"dynamodb": {"Keys": {"sk": {"S": ["PROVIDER"]}}}},
        ],
    }


def test_reading_the_plan_and_writing_scratch_are_retried_too(run: dict[str, Any]):
    (retry,) = run["States"]["shards"]["Retry"]
    assert retry == {**CRASH, "ErrorEquals": ["States.ItemReaderFailed", "States.ResultWriterFailed"]}


def test_what_retries_do_not_mend_goes_to_who_can_judge_it_also_when_the_payload_is_too_large(
    run: dict[str, Any], child: dict[str, Any]
):
    def caught_by(name: str) -> list[dict[str, Any]]:
        return [
            {"ErrorEquals": [error], "ResultPath": "$.error", "Next": name}
            for error in ("States.DataLimitExceeded", "States.ALL")
        ]

    for name in ("plan", "merge"):
        assert run["States"][name]["Catch"] == caught_by("conclude_run")
    assert run["States"]["shards"]["Catch"] == caught_by("merge")
    assert child["States"]["process"]["Catch"] == caught_by("conclude_shard")


def test_a_run_that_was_concluded_ends_as_failed_with_its_cause(run: dict[str, Any]):
    conclude = run["States"]["conclude_run"]
    assert (conclude["ResultPath"], conclude["Next"]) == (None, "failed")
    assert run["States"]["failed"] == {
        "Type": "Fail",
        "ErrorPath": "$.error.Error",
        "CausePath": "$.error.Cause",
    }


def test_a_shard_that_was_concluded_does_not_fail_its_child(child: dict[str, Any]):
    assert child["States"]["conclude_shard"]["End"] is True


def test_a_run_that_nobody_ends_is_ended_and_its_pinned_input_outlives_it(template: Template, run: dict[str, Any]):
    days = 8
    assert run["TimeoutSeconds"] == days * 24 * 3600
    rules = template.properties("S3::Bucket", "storagedata")["LifecycleConfiguration"]["Rules"]
    (kept,) = [rule["NoncurrentVersionExpiration"] for rule in rules if rule["Id"] == "overwritten"]
    assert kept["NoncurrentDays"] > days


def test_runs_log_what_goes_wrong_but_no_data_and_are_traced(template: Template):
    machine = template.properties("StepFunctions::StateMachine", "workflowrun")
    assert machine["LoggingConfiguration"]["Level"] == "ERROR"
    assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
    assert machine["TracingConfiguration"] == {"Enabled": True}
    assert "StateMachineType" not in machine or machine["StateMachineType"] == "STANDARD"
