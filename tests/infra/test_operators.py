"""The policy of operators: enough for their commands, on this deployment, and no more."""

from __future__ import annotations

import json

import pytest

from backhaul.model import keys
from backhaul.operations.contents import Queue
from tests.infra.template import Grant, Template, grant
from tests.infra.test_grants import JOB

MAX_POLICY = 6144
"""Characters that IAM takes for a managed policy, without white space."""

JOBS, FLOW = "<storagejobs.Arn>", "<storageflow.Arn>"
ITEMS = {"dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:Query"}
STREAM = {"dynamodb:GetRecords", "dynamodb:GetShardIterator"}
TAKE = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"}


@pytest.fixture
def granted(template: Template) -> list[Grant]:
    return [grant(each) for name, each in template.statements() if name == "operatorspolicy"]


def on(granted: list[Grant], resource: str) -> set[str]:
    return {action for actions, resources in granted if resource in resources for action in actions}


def test_an_operator_may_take_dead_letters_of_each_queue_and_hand_uploads_in_again(
    template: Template, granted: list[Grant]
):
    for queue in Queue:
        assert on(granted, f"{template.output(queue.kind.output)[:-1]}.Arn>") == TAKE
    assert on(granted, "<intakequeue.Arn>") == {"sqs:SendMessage"}


def test_an_operator_may_read_and_mend_records_and_read_what_a_dead_letter_of_the_stream_is_about(granted: list[Grant]):
    assert on(granted, JOBS) == ITEMS
    for index in ("by-tenant", "due", "queued", "queued-by-tenant"):
        assert on(granted, f"{JOBS}/index/{index}") == {"dynamodb:Query"}
    for table in ("jobs", "flow"):
        assert on(granted, f"<storage{table}.StreamArn>") == STREAM


def test_an_operator_may_list_providers_and_remove_one_but_no_jobs(granted: list[Grant]):
    assert on(granted, FLOW) == ITEMS | {"dynamodb:Scan"}
    assert [res for actions, res in granted if "dynamodb:DeleteItem" in actions] == [[f"{FLOW}?PROVIDER#*"]]
    assert [res for actions, res in granted if "dynamodb:Scan" in actions] == [[FLOW]]


def test_an_operator_may_start_and_stop_runs_and_announce_what_was_not(granted: list[Grant]):
    assert on(granted, "<workflowrun>") == {"states:StartExecution"}
    (executions,) = [resources for actions, resources in granted if "states:StopExecution" in actions]
    assert [on(granted, each) for each in executions] == [{"states:DescribeExecution", "states:StopExecution"}]
    assert on(granted, "<announcementsbus.Arn>") == {"events:PutEvents"}


def test_an_operator_may_read_files_of_jobs_and_clear_unfinished_output_but_write_none(granted: list[Grant]):
    pattern = f"<storagedata.Arn>/{keys.job_prefix(JOB).replace(JOB.tenant, '*').replace(JOB.job_id, '*')}"
    read = {"s3:GetObject", "s3:GetObjectVersion"}
    for kind in ("input/data", "plan/*", "results/*", "receipt/*"):
        assert on(granted, pattern + kind) == read
    assert on(granted, f"{pattern}output/*") == read | {"s3:AbortMultipartUpload"}
    assert on(granted, "<storagedata.Arn>") == {"s3:ListBucket", "s3:ListBucketMultipartUploads"}
    assert not [action for actions, _ in granted for action in actions if action.startswith(("s3:Put", "s3:Delete"))]


def test_an_operator_finds_the_deployment_and_who_hears_its_alarms(granted: list[Grant]):
    (stack,) = [resources for actions, resources in granted if "cloudformation:DescribeStacks" in actions]
    assert stack == ["arn:<AWS::Partition>:cloudformation:<AWS::Region>:<AWS::AccountId>:stack/Backhaul-dev/*"]
    assert on(granted, "<alarmstopic>") == {"sns:ListSubscriptionsByTopic"}


def test_an_operator_may_read_how_much_the_account_runs_and_no_function(granted: list[Grant]):
    of_lambda = [each for each in granted if any(action.startswith("lambda:") for action in each[0])]
    assert of_lambda == [(["lambda:GetAccountSettings"], ["*"])]


def test_the_policy_is_small_enough_for_iam_however_long_the_names_are(granted: list[Grant]):
    # A reference becomes an ARN; none is longer than a hundred characters more than its name here.
    references = sum(len(resources) for _, resources in granted)
    assert len(json.dumps(granted).replace(" ", "")) + 100 * references <= MAX_POLICY
