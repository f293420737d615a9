"""What each function and the state machine may do: `docs/security.md` lists it, and nothing else is granted."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest

from backhaul.model import keys
from backhaul.model.job import JobRef
from backhaul.store.job_index import BY_TENANT, DUE, QUEUED
from tests.infra import grants
from tests.infra.template import Template, listed, texts

JOB = JobRef("AIDAEXAMPLE", "01jd0000000000000000000000")
STEP = keys.step_key(JOB, 7, 0, "5eed")
ANSWER = keys.answer_key("AIDAEXAMPLE", "5eed")
WITHOUT_RESOURCES = ("xray:", "logs:", "lambda:GetAccountSettings", "states:SendTaskSuccess")
"""Services some of whose actions take no narrower resource than `*`."""

NEEDED = [
    ("submit", "s3:PutObject", keys.input_key(JOB)),
    ("sweep", "s3:GetObject", keys.input_key(JOB)),
    ("command", "s3:GetObjectVersion", keys.input_key(JOB)),
    ("command", "s3:GetObjectVersion", keys.plan_key(JOB, 3)),
    ("plan", "s3:GetObjectVersion", keys.input_key(JOB)),
    ("plan", "s3:PutObject", keys.plan_key(JOB, 3)),
    ("plan", "s3:GetObjectVersion", keys.plan_key(JOB, 3)),
    ("process", "s3:GetObjectVersion", keys.input_key(JOB)),
    ("process", "s3:PutObject", keys.result_key(JOB, 12, 2, 0)),
    ("process", "s3:GetObject", keys.result_key(JOB, 12, 2, 0)),
    ("process", "s3:PutObject", STEP),
    ("process", "s3:GetObject", STEP),
    ("process", "s3:PutObject", ANSWER),
    ("process", "s3:GetObject", ANSWER),
    ("merge", "s3:GetObjectVersion", keys.plan_key(JOB, 3)),
    ("merge", "s3:GetObject", keys.result_key(JOB, 12, 2, 0)),
    ("merge", "s3:PutObject", keys.output_key(JOB, 3, "5eed")),
    ("merge", "s3:AbortMultipartUpload", keys.output_key(JOB, 3, "5eed")),
    ("merge", "s3:PutObject", keys.receipt_key(JOB, 3, "5eed")),
    ("inquire", "s3:GetObjectVersion", keys.output_key(JOB, 3, "5eed")),
    ("inquire", "s3:GetObjectVersion", keys.receipt_key(JOB, 3, "5eed")),
]


def may(template: Template, function: str, action: str, key: str) -> bool:
    return any(
        action in actions and any(fnmatchcase(f"<storagedata.Arn>/{key}", pattern) for pattern in resources)
        for actions, resources in template.grants(function)
    )


def test_the_documentation_lists_every_grant_there_is(template: Template):
    assert grants.documented() == grants.table(template), "Renew it with: python -m tests.infra.grants"


@pytest.mark.parametrize(("function", "action", "key"), NEEDED)
def test_a_function_may_do_what_it_needs_to_objects(template: Template, function: str, action: str, key: str):
    assert may(template, function, action, key)


@pytest.mark.parametrize("key", sorted({key for _, _, key in NEEDED}))
@pytest.mark.parametrize("action", sorted({action for _, action, _ in NEEDED}))
def test_no_function_may_do_more_to_objects(template: Template, action: str, key: str):
    allowed = {function for function in template.functions() if may(template, function, action, key)}
    assert allowed == {function for function, needed, of in NEEDED if (needed, of) == (action, key)}


def holders(template: Template, action: str, resource: str) -> set[str]:
    return {
        function
        for function in template.functions()
        for actions, resources in template.grants(function)
        if action in actions and resource in resources
    }


def test_only_what_starts_or_ends_runs_may_touch_slots_and_stop_runs(template: Template):
    deciding = {"dispatch", "sweep", "command"}
    for action in ("dynamodb:UpdateItem", "dynamodb:PutItem"):
        assert holders(template, action, "<storageflow.Arn>") == deciding
    # Who asks about a job is told what that waits for, and what it costs.
    assert holders(template, "dynamodb:GetItem", "<storageflow.Arn>") == deciding | {"inquire"}
    # The merge settles what dead workers held of a job's budget.
    assert holders(template, "dynamodb:UpdateItem", "<storageflow.Arn>?BUDGET#*") == {"process", "merge"}
    assert holders(template, "dynamodb:GetItem", "<storageflow.Arn>?BUDGET#*") == {"process", "merge"}
    # An estimate goes by the providers' prices and limits; a shard that is to wait sees whether they are the same.
    assert holders(template, "dynamodb:GetItem", "<storageflow.Arn>?PROVIDER#*") == {"process", "estimate", "park"}
    assert holders(template, "states:StartExecution", "<workflowrun>") == {"dispatch", "sweep", "command"}
    (stops,) = {
        resource
        for function in template.functions()
        for actions, resources in template.grants(function)
        if "states:StopExecution" in actions
        for resource in resources
    }
    assert holders(template, "states:StopExecution", stops) == {"sweep"}


def test_workers_reach_what_guards_calls_and_no_slots(template: Template):
    def of_flow(action: str) -> set[str]:
        resources = {each for actions, on in template.grants("process") if action in actions for each in on}
        return {each.removeprefix("<storageflow.Arn>?") for each in resources if each.startswith("<storageflow.Arn>")}

    guards = {"LIMIT#*", "BREAKER#*", "BUDGET#*"}
    assert of_flow("dynamodb:UpdateItem") == guards
    assert of_flow("dynamodb:GetItem") == guards | {"PROVIDER#*"}
    assert not of_flow("dynamodb:PutItem")


def test_only_workers_read_keys_of_providers_and_only_those_of_this_deployment(template: Template):
    arn = "arn:<AWS::Partition>:{}:<AWS::Region>:<AWS::AccountId>:{}Backhaul-dev/*"
    assert holders(template, "secretsmanager:GetSecretValue", arn.format("secretsmanager", "secret:")) == {"process"}
    assert holders(template, "ssm:GetParameter", arn.format("ssm", "parameter/")) == {"process"}
    reading = {"secretsmanager:GetSecretValue", "ssm:GetParameter"}
    others = [name for name, each in template.statements() if reading & set(listed(each["Action"]))]
    assert set(others) == {"workersprocessrole"}


def test_models_of_bedrock_are_allowed_by_name(template: Template, synthesize: Callable[..., Template]):
    assert not [each for _, each in template.statements() if "bedrock:InvokeModel" in listed(each["Action"])]
    profile = "eu.anthropic.claude-sonnet-4-6"
    allowing = synthesize(bedrock_models=("amazon.titan-embed-text-v2:0", profile))
    (models,) = [on for actions, on in allowing.grants("process") if actions == ["bedrock:InvokeModel"]]
    assert set(models) == {
        "arn:<AWS::Partition>:bedrock:*::foundation-model/amazon.titan-embed-text-v2:0",
        f"arn:<AWS::Partition>:bedrock:*:<AWS::AccountId>:inference-profile/{profile}",
        "arn:<AWS::Partition>:bedrock:*::foundation-model/anthropic.claude-sonnet-4-6",
    }


@pytest.mark.parametrize("group", ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"])
def test_an_inference_profile_may_be_called_and_its_model_wherever_it_leads(
    synthesize: Callable[..., Template], group: str
):
    allowing = synthesize(bedrock_models=(f"{group}.anthropic.claude-sonnet-4-6",))
    (models,) = [on for actions, on in allowing.grants("process") if actions == ["bedrock:InvokeModel"]]
    model = "foundation-model/anthropic.claude-sonnet-4-6"
    # The third is how a global profile names its model: the region is empty.
    for arn in (
        f"bedrock:eu-west-1:<AWS::AccountId>:inference-profile/{group}.anthropic.claude-sonnet-4-6",
        f"bedrock:eu-west-1::{model}",
        f"bedrock:::{model}",
    ):
        assert any(fnmatchcase(f"arn:<AWS::Partition>:{arn}", each) for each in models), arn
    assert not any(fnmatchcase(f"arn:<AWS::Partition>:bedrock:eu-west-1::{model}-v2", each) for each in models)


def test_a_model_whose_version_has_a_dot_is_no_inference_profile(synthesize: Callable[..., Template]):
    allowing = synthesize(bedrock_models=("zai.glm-4.7", "us-gov.amazon.nova-lite-v1:0"))
    (models,) = [on for actions, on in allowing.grants("process") if actions == ["bedrock:InvokeModel"]]
    assert set(models) == {
        "arn:<AWS::Partition>:bedrock:*::foundation-model/zai.glm-4.7",
        "arn:<AWS::Partition>:bedrock:*:<AWS::AccountId>:inference-profile/us-gov.amazon.nova-lite-v1:0",
        "arn:<AWS::Partition>:bedrock:*::foundation-model/amazon.nova-lite-v1:0",
    }


def test_only_what_gives_chunks_up_may_write_dead_letters_about_them(template: Template):
    assert holders(template, "sqs:SendMessage", "<workersfailedchunks.Arn>") == {"process", "merge"}


def test_a_query_is_granted_on_each_index_to_those_who_ask_it(template: Template):
    def askers(index: str) -> set[str]:
        return holders(template, "dynamodb:Query", f"<storagejobs.Arn>/index/{index}")

    assert askers(BY_TENANT) == {"inquire"}
    assert askers(DUE) == {"sweep"}
    assert askers(QUEUED) == {"dispatch", "sweep", "command"}


def test_only_operators_see_which_objects_and_unfinished_uploads_there_are(template: Template):
    listing = {"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"}
    holding = {name for name, statement in template.statements() if listing & set(listed(statement["Action"]))}
    assert holding == {"operatorspolicy"}


def test_no_action_is_a_pattern_and_no_resource_is_everything(template: Template):
    for name, statement in template.statements():
        actions = listed(statement["Action"])
        assert not [action for action in actions if "*" in action], name
        if "*" in texts(statement["Resource"]):
            assert all(action.startswith(WITHOUT_RESOURCES) for action in actions), name


def test_only_who_wakes_shards_ends_waits_for_which_iam_knows_no_narrower_resource(template: Template):
    granted = {
        name: texts(each["Resource"])
        for name, each in template.statements()
        if "states:SendTaskSuccess" in listed(each["Action"])
    }
    wakers = ("workersparkrole", "wakingwakerole", "recoverysweeprole")
    assert granted == {role: ["*"] for role in wakers}


def test_nothing_but_an_operator_deletes_or_scans_and_nobody_passes_on_rights(template: Template):
    granted = [(name, action) for name, each in template.statements() for action in listed(each["Action"])]
    assert ("operatorspolicy", "dynamodb:Scan") in granted
    # A wait that is over is removed, and nothing else.
    wakers = {"park", "wake", "sweep"}
    assert holders(template, "dynamodb:DeleteItem", "<storageflow.Arn>?WAITS#*") == wakers
    assert not holders(template, "dynamodb:DeleteItem", "<storageflow.Arn>")
    of_operators = {("operatorspolicy", "dynamodb:Scan"), ("operatorspolicy", "dynamodb:DeleteItem")}
    of_wakers = {(role, "dynamodb:DeleteItem") for role in ("workersparkrole", "wakingwakerole", "recoverysweeprole")}
    actions = {action for name, action in granted if (name, action) not in of_operators | of_wakers}
    strong = {action for action in actions if action.split(":")[1].startswith(("Delete", "Scan", "Batch", "Pass"))}
    assert strong == {"sqs:DeleteMessage", "logs:DeleteLogDelivery"}
    assert not [action for action in actions if action.startswith(("iam:", "sts:", "kms:"))]


def test_a_role_is_assumed_by_its_one_service_and_no_policy_of_aws_is_attached(template: Template):
    for name, role in template.of_type("IAM::Role").items():
        (statement,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        service = "states.amazonaws.com" if name == "workflowrunrole" else "lambda.amazonaws.com"
        assert statement["Principal"] == {"Service": service}
        assert "ManagedPolicyArns" not in role["Properties"]


def test_every_function_has_a_role_of_its_own(template: Template):
    roles = [str(function["Role"]) for function in template.functions().values()]
    assert len(set(roles)) == len(roles)


def test_every_function_may_log_to_its_own_log_and_trace_itself_if_it_is_traced(template: Template):
    for name, function in template.functions().items():
        (log,) = texts(function["LoggingConfig"]["LogGroup"])
        assert (grants.LOGGING, [f"{log[:-1]}.Arn>"]) in template.grants(name)
        everywhere = [set(actions) for actions, resources in template.grants(name) if resources == ["*"]]
        assert any(actions >= set(grants.TRACING) for actions in everywhere) is ("TracingConfig" in function)
        assert len([resources for actions, resources in template.grants(name) if "logs:PutLogEvents" in actions]) == 1
