"""Local clouds: side by side, apart from each other, and gone when stopped."""

import ssl
from pathlib import Path

import botocore.exceptions
import httpx
import psutil
import pytest

from backhaul.local import LocalCloud, LocalCloudError, State
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder


def unsigned(api_url: str, ca_bundle: Path) -> int:
    trusted = ssl.create_default_context(cafile=ca_bundle)
    return httpx.get(f"{api_url}/jobs", verify=trusted, trust_env=False).status_code


def test_stopping_one_of_two_clouds_leaves_the_other_alone(cloud, cloud_home, tmp_path):
    second = LocalCloud(tmp_path / "second", context={"name": "Second"})  # as cdk.json may have it
    try:
        connection = second.up()
        assert connection.port != cloud.port
        assert unsigned(connection.api_url, connection.ca_bundle) == httpx.codes.FORBIDDEN
        assert LocalCloud(cloud_home).status().state is State.RUNNING
    finally:
        assert second.down()
    assert second.status().state is State.STOPPED
    assert Emulator(Folder(second.home)).processes() == []
    assert [path.name for path in second.home.iterdir()] == ["lock"]
    assert LocalCloud(cloud_home).status().state is State.RUNNING
    assert unsigned(cloud.api_url, cloud.ca_bundle) == httpx.codes.FORBIDDEN


def test_a_cloud_listens_on_one_port_of_loopback_only(cloud, cloud_home):
    processes = Emulator(Folder(cloud_home)).processes()
    sockets = [socket for process in processes for socket in process.net_connections("inet")]
    listening = {socket.laddr for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", cloud.port)}


def test_a_running_cloud_is_deployed_to_again_only_when_a_source_has_changed(cloud, local, monkeypatch):
    monkeypatch.setattr("backhaul.local.cloud.fingerprint", lambda _project: "changed")
    steps: list[str] = []
    for _ in range(2):
        assert local.up(lambda step, _seconds: steps.append(step)) == cloud
    compared = "Compared the sources with what is deployed"
    assert steps == [compared, "Synthesized the stack", "Deployed the stack", compared]


def test_clients_are_the_iam_user_developer_and_may_only_what_the_stack_grants(cloud):
    access = cloud.access()
    caller = access.session.client("sts", **access.options).get_caller_identity()
    assert caller["Arn"] == "arn:aws:iam::000000000000:user/developer"
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        access.session.client("s3", **access.options).list_buckets()


def test_the_logs_of_an_unknown_function_name_the_known_ones(cloud, cloud_home):
    with pytest.raises(LocalCloudError, match="Use one of: Backhaul-local-"):
        list(LocalCloud(cloud_home).logs("no such function"))


def test_what_a_function_logs_can_be_read_by_a_part_of_its_name(cloud, cloud_home):
    root = cloud.as_root()
    client = root.session.client("lambda", **root.options)
    name = client.list_functions()["Functions"][0]["FunctionName"]
    client.invoke(FunctionName=name, Payload=b"{}")
    assert any(line.startswith("START RequestId") for line in LocalCloud(cloud_home).logs(name[:-1].upper()))
