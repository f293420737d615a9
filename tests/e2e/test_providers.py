"""Providers on the local cloud: keys where they are kept, what is told of them, and Amazon Bedrock."""

import json
import time
from collections.abc import Iterator

import pytest

from prove.cases.process_calls import asking
from prove.deployed import Deployed, eventually
from prove.site import Site, watched
from scripts.subscriber import subscription
from tests.e2e.support import admin_client, output_of

KEY = "sk-marked-key"
RECORDS = [f"upper: marked question {number}" for number in range(12)]
ANSWERS = [f"MARKED QUESTION {number}" for number in range(12)]
OPTIONS = {"prompt": "{{record}}", "format": "lines", "max_tokens": 20}
NOVA = "amazon.nova-micro-v1:0"
ALLOWED = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "bedrock:Converse", "Resource": "*"}],
}
"""What the emulator asks of a worker; AWS asks for bedrock:InvokeModel, which `-c bedrock_models=` grants."""


@pytest.fixture(scope="module")
def site(cloud, client, cloud_home) -> Iterator[Site]:
    """The tests' deployment."""
    with watched(Deployed(cloud, client, cloud_home)) as site:
        yield site


def submit(deployed, provider):
    return deployed.submit(
        "".join(f"{each}\n" for each in RECORDS).encode(), "prompt", OPTIONS | {"provider": provider}
    )


def answers(deployed, job):
    return [json.loads(line)["output"] for line in output_of(deployed.client, deployed.client.job(job)).splitlines()]


def told_of(job, events):
    """What the events of a job say, to its end."""
    told = []
    for event in events:
        if event["detail"].get("job_id") == job:
            told.append(json.dumps(event))
            if event["detail-type"] == "Job Succeeded":
                break
    return "\n".join(told)


@pytest.mark.parametrize("kept", ["secretsmanager:Backhaul-local/strict", "ssm:/Backhaul-local/strict"])
def test_a_key_is_read_where_it_is_kept_and_is_never_told_and_no_answer_either(cloud, site, kept):
    if kept.startswith("ssm"):
        admin_client(cloud, "ssm").put_parameter(Name="/Backhaul-local/strict", Type="SecureString", Value=KEY)
    else:
        admin_client(cloud, "secretsmanager").create_secret(Name="Backhaul-local/strict", SecretString=KEY)
    deployed, since = site.deployed, time.time()
    with asking(site, secret=KEY) as it, subscription(cloud, seconds=25) as events:
        it.set(secret=kept)
        job = submit(deployed, it.name)
        assert deployed.ended(job).state == "SUCCEEDED"
        told = told_of(job, events)
        counts = it.fake.counts()
    assert answers(deployed, job) == ANSWERS
    assert (counts["paid"], counts["denied"]) == (len(RECORDS), 0)
    said = eventually(lambda: "\n".join(deployed.logged(since)), lambda said: "shard left" in said and job in said)
    assert "SUCCEEDED" in told
    for secret in (KEY, "marked question", "MARKED QUESTION"):
        assert secret not in said
        assert secret not in told


def test_a_key_that_is_not_there_is_the_cause_and_nobody_is_asked(site):
    with asking(site, secret=KEY) as it:
        it.set(secret="secretsmanager:Backhaul-local/nothing")  # a reference
        job = submit(site.deployed, it.name)
        ended = site.deployed.ended(job)
        calls = it.fake.counts()["calls"]
    assert (ended.state, calls) == ("FAILED", 0)
    assert "secretsmanager:Backhaul-local/nothing" in ended.cause.message
    assert KEY not in ended.cause.message


def test_a_model_of_bedrock_answers_once_workers_may_ask_it(cloud, site):
    deployed = site.deployed
    code, said = deployed.command("providers", "set", "nova", "kind=bedrock", f"model={NOVA}", "region=us-east-1")
    assert code == 0, said
    job = submit(deployed, "nova")
    # The first who is denied says why; after that it is the breaker that holds the job back.
    whys = ("may not call this model", "credentials")
    eventually(lambda: [each for each in deployed.client.job(job).waiting_for for why in whys if why in each])
    process = admin_client(cloud, "lambda").get_function_configuration(FunctionName=deployed.function("workersprocess"))
    admin_client(cloud, "iam").put_role_policy(
        RoleName=process["Role"].rpartition("/")[2], PolicyName="bedrock", PolicyDocument=json.dumps(ALLOWED)
    )
    deployed.command("breakers", "close", "nova", "--reason", "allowed")
    assert deployed.ended(job, seconds=240).state == "SUCCEEDED"
    found = answers(deployed, job)
    assert len(found) == len(RECORDS)
    assert all(NOVA in each for each in found)  # the emulator's models say who they are
