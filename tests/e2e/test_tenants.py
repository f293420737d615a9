"""Who may do what on a deployment with IAM enforcement on."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from backhaul.client.discovery import connect
from backhaul.local.deployment import STAGE
from backhaul.model.errors import DeploymentUnreachable
from tests.e2e.support import admin_client, ask, run_job, trusted

Key = tuple[str, str]


@pytest.fixture
def stranger(cloud) -> Iterator[Key]:
    """The access key of a new user without any policy."""
    iam, name = admin_client(cloud, "iam"), f"stranger-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield key["AccessKeyId"], key["SecretAccessKey"]
    for policy in iam.list_attached_user_policies(UserName=name)["AttachedPolicies"]:
        iam.detach_user_policy(UserName=name, PolicyArn=policy["PolicyArn"])
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=name)


@pytest.fixture
def neighbour(cloud, stranger) -> Key:
    """The access key of another user with the callers' policy."""
    iam = admin_client(cloud, "iam")
    name = iam.get_access_key_last_used(AccessKeyId=stranger[0])["UserName"]
    iam.attach_user_policy(UserName=name, PolicyArn=cloud.outputs["ClientPolicyArn"])
    return stranger


@pytest.fixture
def environ(cloud, monkeypatch):
    """Makes an access key the only AWS credentials of this process."""

    def be(key: Key) -> dict[str, str]:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "BACKHAUL_STACK"):
            monkeypatch.delenv(name, raising=False)
        known = cloud.environment() | {"AWS_ACCESS_KEY_ID": key[0], "AWS_SECRET_ACCESS_KEY": key[1]}
        for name, value in known.items():
            monkeypatch.setenv(name, value)
        return known

    return be


def test_the_callers_policy_is_all_that_a_caller_needs_who_names_the_stack(cloud, neighbour, environ, tmp_path):
    (tmp_path / "input").write_bytes(b"mine\n")
    with connect(f"Backhaul-{STAGE}", environ(neighbour)) as client:
        assert client._api.base_url.host == httpx.URL(cloud.outputs["ApiUrl"]).host
        client._api.base_url = cloud.api_url  # what the local cloud rewrites: that host's name resolves nowhere
        run_job(client, tmp_path / "input", "text-stats")


def test_a_caller_without_the_callers_policy_does_not_find_the_stack(environ, stranger):
    with pytest.raises(DeploymentUnreachable, match=r"cannot be read.*AccessDenied"):
        connect(f"Backhaul-{STAGE}", environ(stranger))


def test_an_unsigned_request_is_refused(cloud):
    assert httpx.get(cloud.api_url + "/jobs", verify=trusted(cloud)).status_code == 403


def test_a_caller_without_the_callers_policy_is_refused(cloud, stranger):
    assert ask(cloud, "GET", "/jobs", key=stranger).status_code == 403


def test_another_tenants_job_looks_like_one_that_does_not_exist(cloud, client, neighbour, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"mine\n")
    job, _ = run_job(client, path, "text-stats")
    missing = ask(cloud, "GET", f"/jobs/{'0' * 26}")
    assert missing.status_code == 404
    for path in ("", "/result", "/receipt"):
        found = ask(cloud, "GET", f"/jobs/{job.job_id}{path}", key=neighbour)
        assert found.status_code == 404
        assert found.json()["error"]["code"] == "job_not_found"
    assert ask(cloud, "GET", "/jobs", key=neighbour).json() == {"jobs": [], "next": None}
    assert job.job_id in ask(cloud, "GET", "/jobs?limit=100").text


def test_a_caller_cannot_read_the_bucket_or_the_table(cloud):
    session, options = cloud.access().session, cloud.access().options
    s3, dynamodb = session.client("s3", **options), session.client("dynamodb", **options)
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=cloud.outputs["DataBucketName"])
    with pytest.raises(dynamodb.exceptions.ClientError, match="AccessDenied"):
        dynamodb.scan(TableName=cloud.outputs["JobsTableName"])
