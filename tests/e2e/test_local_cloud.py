"""Local clouds: side by side, apart from each other, and gone when stopped."""

import os
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import botocore.exceptions
import httpx
import psutil
import pytest

from backhaul.local import LocalCloud, LocalCloudError, State, emulator
from backhaul.local.deployment import Deployment
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from tests.e2e.support import eventually


def folder_in(home: Path) -> Folder:
    folder = Folder(home)
    with folder.locked():
        folder.renew()
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator without a stack: it starts in no time."""
    alone = Emulator(folder_in(tmp_path / "bare"))
    yield alone
    alone.stop()


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


def test_a_dead_emulator_is_seen_as_dead_and_a_new_one_takes_its_place(bare):
    first = bare.start()
    for process in bare.processes():
        process.kill()
    eventually(bare.processes, lambda living: not living, seconds=10)
    assert not bare.answers(int(first.rpartition(":")[2]))
    bare.folder.renew()
    assert bare.answers(int(bare.start().rpartition(":")[2]))


def test_two_emulators_that_start_at_once_get_ports_of_their_own(bare, tmp_path):
    other = Emulator(folder_in(tmp_path / "other"))
    try:
        assert bare.start() != other.start()
    finally:
        assert other.stop()


def test_an_emulator_that_cannot_start_names_its_log_and_leaves_nothing(bare, tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the reason\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setattr(emulator, "PYTHON", broken)
    with pytest.raises(LocalCloudError, match="the reason") as raised:
        bare.start()
    assert str(bare.folder.emulator_log) in str(raised.value)
    assert bare.processes() == []


@pytest.fixture
def interruptible():
    """Python's usual answer to Ctrl-C, also where the tests run in the background, which a shell lets ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("step", ["bootstrap", "synthesize", "deploy"])
def test_an_interrupted_start_leaves_nothing_running(step, tmp_path, monkeypatch, interruptible):
    for name in ("bootstrap", "synthesize", "deploy"):
        monkeypatch.setattr(Deployment, name, lambda _self: None)
    monkeypatch.setattr(Deployment, step, lambda _self: os.kill(os.getpid(), signal.SIGINT))
    interrupted = LocalCloud(tmp_path / "interrupted")
    with pytest.raises(KeyboardInterrupt):
        interrupted.up()
    assert Emulator(Folder(interrupted.home)).processes() == []
    assert interrupted.status().state is State.STOPPED
