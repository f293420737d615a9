"""What rings, for whom, and what it tells them to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from aws_cdk import Stack
from aws_cdk.assertions import Annotations, Match

from backhaul.operations.contents import Queue
from tests.commands import named_in, parse
from tests.infra.conftest import build
from tests.infra.template import Template, text


def alarm_of(queue: Queue, what: str) -> str:
    return f"alarms{queue}{what}".replace("-", "")


DEAD_LETTERS = ("AWS/SQS", "Maximum ApproximateNumberOfMessagesVisible")
FIVE_MINUTES, A_DAY, A_QUARTER = (1, 300), (24, 3600), (3, 300)
WATCHED = [
    *((alarm_of(queue, "waiting"), *DEAD_LETTERS, queue.kind.output, "> 0", FIVE_MINUTES) for queue in Queue),
    *((alarm_of(queue, "old"), *DEAD_LETTERS, queue.kind.output, "> 0", A_DAY) for queue in Queue),
    ("alarmsstalledshards", "Backhaul", "Maximum StalledShards", "Backhaul-dev", "> 0", FIVE_MINUTES),
    ("alarmsjobspastdeadline", "Backhaul", "Maximum JobsPastDeadline", "Backhaul-dev", "> 0", FIVE_MINUTES),
    ("alarmssweepfailing", "AWS/Lambda", "Sum Errors", "<recoverysweep>", "> 6", FIVE_MINUTES),
    ("alarmssweepsilent", "AWS/Lambda", "Sum Invocations", "<recoverysweep>", "< 1", A_QUARTER),
]
"""Name, namespace, statistic and metric, of what, what rings, and in how many periods of how many seconds; a queue goes
by the output that has its URL."""


def alarms(template: Template) -> dict[str, dict[str, Any]]:
    return {name: each["Properties"] for name, each in template.of_type("CloudWatch::Alarm").items()}


def test_everything_that_waits_for_a_person_is_watched_and_nothing_else(template: Template):
    assert set(alarms(template)) == {name for name, *_ in WATCHED}


@pytest.mark.parametrize(("name", "namespace", "metric", "of", "rings", "during"), WATCHED)
def test_an_alarm_rings_when_it_should(
    template: Template, name: str, namespace: str, metric: str, of: str, rings: str, during: tuple[int, int]
):
    alarm = alarms(template)[name]
    (dimension,) = alarm["Dimensions"]
    measured = f"{alarm['Statistic']} {alarm['MetricName']}"
    watched = f"{template.output(of)[:-1]}.QueueName>" if namespace == "AWS/SQS" else of
    assert (alarm["Namespace"], measured, text(dimension["Value"])) == (namespace, metric, watched)
    assert dimension["Name"] == {"AWS/SQS": "QueueName", "AWS/Lambda": "FunctionName"}.get(namespace, "service")
    operator = {">": "GreaterThanThreshold", "<": "LessThanThreshold"}[rings[0]]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == (operator, int(rings[2:]))
    assert (alarm["EvaluationPeriods"], alarm["Period"]) == during
    assert [text(each) for each in alarm["AlarmActions"]] == ["<alarmstopic>"]


def test_silence_is_what_rings_of_a_sweep_that_does_not_run_and_of_nothing_else(template: Template):
    missing = {name: each["TreatMissingData"] for name, each in alarms(template).items()}
    assert missing == {name: "notBreaching" for name, *_ in WATCHED} | {"alarmssweepsilent": "breaching"}


def test_every_dead_letter_queue_is_watched(template: Template):
    ends = {name for name, each in template.of_type("SQS::Queue").items() if "RedrivePolicy" not in each["Properties"]}
    assert {template.output(queue.kind.output) for queue in Queue} == {f"<{name}>" for name in ends}


def test_the_queues_of_a_deployment_are_those_of_its_next_update(template: Template):
    ids = {name for name, each in template.document["Resources"].items() if each["Type"].startswith("AWS::SQS::")}
    assert ids >= {
        "intakedeadletters0AFC5333",
        "intakedeadlettersPolicy87910E74",
        "workersfailedchunks89277FF0",
        "workersfailedchunksPolicy8BD4E9D2",
        "announcementsdeadlettersF947661D",
        "announcementsdeadlettersPolicy188D3814",
    }


def test_an_alarm_says_which_command_to_run(template: Template):
    looks = {
        alarm_of(queue, what): f"backhaul dlq list --queue {queue}" for queue in Queue for what in ("waiting", "old")
    }
    for name, alarm in alarms(template).items():
        doctor = "backhaul doctor --repair" if name == "alarmssweepsilent" else "backhaul doctor"
        first, *_ = named_in(alarm["AlarmDescription"])
        assert first == f"{looks.get(name, doctor)} --stack Backhaul-dev"
        assert len(alarm["AlarmDescription"]) <= 1024


def test_the_command_line_takes_every_command_that_an_alarm_names(template: Template):
    for alarm in alarms(template).values():
        parsed = [parse(command) for command in named_in(alarm["AlarmDescription"])]
        assert parsed
        # Without it a command goes to the local cloud, or to whatever deployment a variable names.
        assert all(each["stack"] == "Backhaul-dev" for each in parsed)


def test_alarms_may_write_to_their_topic_and_nobody_may_over_plain_http(template: Template):
    (policy,) = template.of_type("SNS::TopicPolicy").values()
    statements = {each["Effect"]: each for each in policy["Properties"]["PolicyDocument"]["Statement"]}
    assert statements["Deny"]["Principal"] == "*"
    assert statements["Deny"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statements["Allow"]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert json.loads(json.dumps(statements["Allow"]["Condition"])) == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_each_address_is_subscribed(synthesize: Callable[..., Template]):
    template = synthesize(alarm_emails="ops@example.com,dev@example.com")
    subscribed = [each["Properties"] for each in template.of_type("SNS::Subscription").values()]
    assert {(each["Protocol"], each["Endpoint"], text(each["TopicArn"])) for each in subscribed} == {
        ("email", "ops@example.com", "<alarmstopic>"),
        ("email", "dev@example.com", "<alarmstopic>"),
    }
    assert not synthesize().of_type("SNS::Subscription")


def test_a_deployment_whose_alarms_reach_nobody_is_warned_and_told_what_to_do():
    def warnings(**context: Any) -> Annotations:
        _, pipeline = build(**context)
        assert isinstance(pipeline, Stack)
        return Annotations.from_stack(pipeline)

    # Not by `find_warning`: two packages install the module of what it returns, and with the other one's jsii fails.
    warnings().has_warning("*", Match.string_like_regexp("Nobody receives the alarms.*-c alarm_emails="))
    # by which it can be acknowledged
    warnings().has_warning("*", Match.string_like_regexp("backhaul:alarms-reach-nobody"))
    warnings(alarm_emails="ops@example.com").has_no_warning("*", Match.any_value())
    warnings(stage="local").has_no_warning("*", Match.any_value())
