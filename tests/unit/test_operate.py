"""How an operator reaches a deployment: a stack with AWS credentials, or the local cloud as its operator."""

import traceback

import pytest
from botocore.config import Config

from backhaul.client import discovery
from backhaul.client.discovery import connect, operate
from backhaul.local import LocalCloudError
from backhaul.local.connection import Connection
from backhaul.model.errors import DeploymentUnreachable
from backhaul.operations.contents import Queue

OUTPUTS = {
    "JobsTableName": "jobs",
    "FlowTableName": "flow",
    "MaxRunningJobs": "100",
    "MaxRunningJobsPerTenant": "20",
    "MaxCostPerDay": "any",
    "MaxCostPerDayPerTenant": "2.50",
    "DataBucketName": "data",
    "StateMachineArn": "arn:aws:states:us-east-1:000000000000:stateMachine:runs",
    "EventBusName": "bus",
    "IntakeQueueUrl": "https://sqs/intake",
    **{queue.kind.output: f"https://sqs/{queue}" for queue in Queue},
    "AlarmTopicArn": "arn:aws:sns:us-east-1:000000000000:alarms",
}
WHO = "arn:aws:iam::000000000000:user/ada"


def stack(outputs):
    members = "".join(
        f"<member><OutputKey>{key}</OutputKey><OutputValue>{value}</OutputValue></member>"
        for key, value in outputs.items()
    )
    return (
        '<DescribeStacksResponse xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><DescribeStacksResult>'
        "<Stacks><member><StackName>s</StackName><CreationTime>2026-11-22T12:00:00Z</CreationTime>"
        f"<StackStatus>CREATE_COMPLETE</StackStatus><Outputs>{members}</Outputs></member></Stacks>"
        "</DescribeStacksResult></DescribeStacksResponse>"
    )


IDENTITY = (
    '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    f"<Arn>{WHO}</Arn><UserId>A</UserId><Account>000000000000</Account>"
    "</GetCallerIdentityResult></GetCallerIdentityResponse>"
)
REFUSED = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not you</Message></Error>"
    "</ErrorResponse>"
)


@pytest.fixture(autouse=True)
def _credentials(monkeypatch, tmp_path, server):
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN", "BACKHAUL_API_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ENDPOINT_URL": server.url,
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def deployed(server, answer):
    """A server that is CloudFormation and STS: they are told apart by what they are asked."""

    def deploy(outputs, identity=IDENTITY, status=200):
        def route(request):
            if b"DescribeStacks" in request.body:
                return answer(200, stack(outputs).encode(), {"Content-Type": "text/xml"})
            return answer(status, identity.encode(), {"Content-Type": "text/xml"})

        server.routes["POST", "/"] = route

    return deploy


def test_a_stack_tells_where_everything_is_and_sts_who_asks(deployed):
    deployed(OUTPUTS)
    operations = operate("s")
    assert operations.who == WHO
    assert operations.settings.jobs_table == "jobs"
    assert operations.settings.flow_table == "flow"
    assert (operations.settings.cap, operations.settings.cap_per_tenant) == (None, 2_500_000_000)
    assert set(operations.dead_letters()) == set(Queue)
    assert operations.alarm_topic() == OUTPUTS["AlarmTopicArn"]


@pytest.mark.parametrize("missing", [name for name in OUTPUTS if name not in ("AlarmTopicArn", "IntakeQueueUrl")])
def test_an_output_that_is_missing_is_named(deployed, missing):
    deployed({name: value for name, value in OUTPUTS.items() if name != missing})
    with pytest.raises(DeploymentUnreachable, match=rf"The stack 's' has no output {missing}.*deploy it again"):
        operate("s").dead_letters()


def test_credentials_that_sts_refuses_say_so(deployed):
    deployed(OUTPUTS, REFUSED, 403)
    with pytest.raises(DeploymentUnreachable, match=r"who you are.*not you"):
        operate("s")


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("AWS_SESSION_TOKEN", "session token"),
        ("AWS_SECRET_ACCESS_KEY", "secret access key"),
        ("AWS_ACCESS_KEY_ID", "access key ID"),
    ],
)
@pytest.mark.parametrize("reach", [connect, operate])
def test_credentials_that_no_header_takes_are_refused_and_never_shown(deployed, monkeypatch, reach, variable, named):
    deployed(OUTPUTS | {"ApiUrl": "https://api.example.com"})
    monkeypatch.setenv(variable, "HIDDEN\nHIDDEN")
    with pytest.raises(DeploymentUnreachable, match=f"the {named} has a line break") as raised:
        reach("s")
    assert "HIDDEN" not in "".join(traceback.format_exception(raised.value))


def connection(server, tmp_path):
    return Connection(
        *(server.url, "https://api", "us-east-1", "AKIADEV", "secret"),
        *(tmp_path / "ca.pem", OUTPUTS, ("AKIAOPS", "secret")),
        root_secret="secret",
    )


def test_without_a_stack_the_local_cloud_is_operated_as_its_operator(deployed, server, monkeypatch, tmp_path):
    deployed({})
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr("backhaul.local.LocalCloud.connection", lambda _: connection(server, tmp_path))
    operations = operate(environ={"BACKHAUL_API_URL": "https://api"})
    assert operations.who == WHO
    assert "Credential=AKIAOPS/" in server.requests[-1].headers["authorization"]
    assert operations.store.queue(server.url)._client.meta.endpoint_url == server.url


def test_the_local_clouds_buckets_are_addressed_by_path(server, tmp_path):
    client = discovery._local_clients(connection(server, tmp_path))
    made = client("s3", config=Config(s3={"addressing_style": "virtual"}, read_timeout=7))
    assert made.meta.config.s3["addressing_style"] == "path"
    assert made.meta.config.read_timeout == 7
    assert made.meta.config.proxies == {}


def nothing_runs(_):
    raise LocalCloudError("It does not run.")


def test_without_a_stack_and_a_local_cloud_one_is_told_what_to_do(monkeypatch):
    monkeypatch.setattr("backhaul.local.LocalCloud.connection", nothing_runs)
    with pytest.raises(DeploymentUnreachable, match="backhaul local up"):
        operate(environ={})


def test_an_api_somewhere_else_is_never_mistaken_for_the_local_cloud(server, monkeypatch, tmp_path):
    for found in (nothing_runs, lambda _: connection(server, tmp_path)):
        monkeypatch.setattr("backhaul.local.LocalCloud.connection", found)
        with pytest.raises(DeploymentUnreachable, match="--stack"):
            operate(environ={"BACKHAUL_API_URL": "https://elsewhere"})
