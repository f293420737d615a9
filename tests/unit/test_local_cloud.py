"""The local cloud, as far as it can be tested without starting one."""

import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backhaul import toolchain
from backhaul.local import Connection, LocalCloud, LocalCloudError, State, certificate, deployment, emulator
from backhaul.local.deployment import Deployment, fingerprint
from backhaul.local.emulator import Emulator, listen
from backhaul.local.errors import failure
from backhaul.local.folder import Folder
from backhaul.local.keeper import OWNER

NOWHERE = Connection(
    endpoint_url="https://127.0.0.1:1",
    api_url="https://127.0.0.1:1/_aws/execute-api/abc/$default",
    region="us-east-1",
    access_key_id="AKIAEXAMPLE",
    secret_access_key="not a real secret",
    root_secret="no more real",
    ca_bundle=Path("/somewhere/ca.pem"),
    outputs={"ApiId": "abc"},
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "home")
    with folder.locked():
        folder.renew()
    return folder


@pytest.fixture
def sleeper() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(home: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        process = subprocess.Popen(command, env={OWNER: str(home)}, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


# Where it listens


@pytest.mark.enable_socket
def test_a_taken_port_makes_the_cloud_listen_on_a_free_one():
    with listen(0) as first:
        taken = first.getsockname()[1]
        with listen(taken) as second:
            assert second.getsockname()[1] != taken


@pytest.mark.enable_socket
def test_the_preferred_port_is_taken_when_it_is_free():
    with listen(0) as first:
        port = first.getsockname()[1]
    with listen(port) as again:
        assert again.getsockname() == ("127.0.0.1", port)


# What the emulator, and so every function, gets to see


def test_the_emulator_sees_nothing_of_the_developers_environment(folder, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "PYTHONPATH", "HTTPS_PROXY", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "the developer's")
    environment = Emulator(folder).environment(4567)
    assert "the developer's" not in environment.values()
    assert not {name for name in environment if name.startswith("PYTHON")}


def test_the_emulator_is_told_to_bind_loopback_and_to_enforce_iam_with_tls(folder):
    environment = Emulator(folder).environment(4567)
    assert {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": "4567",
        "AUTH": "true",
        "USE_SSL": "1",
    }.items() <= environment.items()


def test_whatever_the_emulator_writes_lies_under_its_home(folder):
    paths = {
        value for value in Emulator(folder).environment(4567).values() if value.startswith("/") and ":" not in value
    }
    assert len(paths) >= 8
    assert all(Path(path).is_relative_to(folder.home) for path in paths)


def test_the_certificate_is_trusted_for_loopback_and_its_key_is_not_public(folder):
    certificate.issue(folder.tls)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder.tls / "server.crt", folder.tls / "server.key")
    client = ssl.create_default_context(cafile=folder.tls / "ca.pem")
    assert handshake(client, server, "127.0.0.1")
    assert stat.S_IMODE(folder.state.stat().st_mode) == 0o700


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
    return not ends


def test_functions_trust_the_public_authorities_as_well(folder):
    certificate.issue(folder.tls)
    assert (folder.tls / "trust.pem").read_bytes().count(b"BEGIN CERTIFICATE") > 10


# Whose processes are whose


def test_stopping_ends_every_process_of_this_cloud_and_none_of_another(folder, sleeper, tmp_path):
    mine, mine_too, other = sleeper(folder.home), sleeper(folder.home), sleeper(tmp_path / "other")
    assert Emulator(folder).stop()
    assert mine.poll() is not None
    assert mine_too.poll() is not None
    assert other.poll() is None


def test_stopping_what_does_not_run_is_no_error(folder):
    assert not Emulator(folder).stop()


def test_a_home_whose_name_begins_alike_is_another_cloud(folder, sleeper):
    other = sleeper(folder.home.with_name("home2"))
    Emulator(folder).stop()
    assert other.poll() is None


def test_a_cloud_whose_folder_was_deleted_can_still_be_stopped(folder, sleeper):
    mine = sleeper(folder.home)
    shutil.rmtree(folder.home)
    cloud = LocalCloud(folder.home)
    assert cloud.status().state is State.DIED
    assert cloud.down()
    assert mine.poll() is not None


# How it is reached


def test_a_connection_is_read_back_as_it_was_stored(folder):
    NOWHERE.save(folder.connection)
    assert Connection.load(folder.connection) == NOWHERE


def test_only_the_developer_can_read_a_stored_connection(folder):
    NOWHERE.save(folder.connection)
    replace(NOWHERE, access_key_id="another").save(folder.connection)
    assert stat.S_IMODE(folder.connection.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"{}", b'{"port": 4566}', b"not JSON"])
def test_a_connection_file_of_another_version_counts_as_none(folder, content):
    folder.connection.write_bytes(content)
    assert Connection.load(folder.connection) is None


def test_a_connection_never_shows_its_secret():
    assert NOWHERE.secret_access_key not in repr(NOWHERE)
    assert NOWHERE.root_secret not in repr(NOWHERE)


def test_the_exported_variables_survive_a_shell():
    script = f'{NOWHERE.exports()}\nprintf "%s|%s" "$BACKHAUL_API_URL" "$AWS_SECRET_ACCESS_KEY"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == f"{NOWHERE.api_url}|{NOWHERE.secret_access_key}"


def test_clients_of_the_local_cloud_ignore_the_developers_profile(monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "one that does not exist")
    access = NOWHERE.access()
    client = access.session.client("s3", **access.options)
    assert client.meta.endpoint_url == NOWHERE.endpoint_url


# What can be said of it


def test_a_home_that_was_never_used_holds_a_stopped_cloud(tmp_path):
    cloud = LocalCloud(tmp_path / "none")
    assert cloud.status().state is State.STOPPED
    assert not cloud.down()
    assert not cloud.home.exists()


@pytest.mark.enable_socket
def test_a_cloud_that_does_not_answer_has_died(folder):
    certificate.issue(folder.tls)
    NOWHERE.save(folder.connection)
    found = LocalCloud(folder.home).status()
    assert found.state is State.DIED
    assert str(folder.emulator_log) in str(found)


def test_a_cloud_that_another_command_is_starting_is_busy(folder):
    with folder.locked():
        assert LocalCloud(folder.home).status().state is State.BUSY
    assert LocalCloud(folder.home).status().state is State.STOPPED


def test_connecting_to_no_cloud_says_how_to_start_one(tmp_path):
    with pytest.raises(LocalCloudError, match="backhaul local up"):
        LocalCloud(tmp_path).env()


def test_logs_of_no_cloud_are_an_error(tmp_path):
    with pytest.raises(LocalCloudError, match=str(tmp_path)):
        LocalCloud(tmp_path).logs()


def test_the_emulators_log_is_read_line_by_line(folder):
    folder.emulator_log.write_text("one\ntwo\n")
    assert list(LocalCloud(folder.home).logs()) == ["one", "two"]


def test_the_home_can_be_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BACKHAUL_HOME", str(tmp_path))
    assert LocalCloud().home == tmp_path
    monkeypatch.delenv("BACKHAUL_HOME")
    assert LocalCloud().home == toolchain.PROJECT / ".backhaul"


def test_discarding_the_state_leaves_what_is_not_the_clouds(folder):
    own_file = folder.home / "notes.txt"
    own_file.touch()
    NOWHERE.save(folder.connection)
    folder.discard()
    assert own_file.exists()
    assert not folder.state.exists()
    assert not folder.connection.exists()


# What fails, and how it says so


def test_a_failure_names_the_log_and_shows_its_end(tmp_path):
    log = tmp_path / "some.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    message = str(failure("It broke", log))
    assert str(log) in message
    assert message.endswith("line 98\nline 99")
    assert "line 0\n" not in message


def test_a_failure_without_a_log_is_still_told(tmp_path):
    assert "It broke" in str(failure("It broke", tmp_path / "none.log"))


def test_a_failing_cdk_command_is_reported_with_its_output(folder, monkeypatch):
    script = "import sys; print('no such construct'); sys.exit(3)"
    monkeypatch.setattr(toolchain, "command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(LocalCloudError, match="cdk synth") as raised:
        Deployment(folder, NOWHERE.endpoint_url).synthesize()
    assert "exit code 3" in str(raised.value)
    assert str(folder.cdk_log) in str(raised.value)
    assert "no such construct" in str(raised.value)


def test_synthesis_sees_no_aws_settings_and_deployment_only_the_emulators(folder, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example")
    seen = []
    monkeypatch.setattr(subprocess, "call", lambda _command, env, **_: seen.append(env) or 0)
    cloud = Deployment(folder, NOWHERE.endpoint_url)
    cloud.synthesize()
    cloud.bootstrap()
    synth, bootstrap = seen
    assert not {"AWS_PROFILE", "PYTHONPATH", "AWS_ENDPOINT_URL"} & synth.keys()
    assert synth["PIP_INDEX_URL"] == "https://index.example"
    assert not {"AWS_PROFILE", "PYTHONPATH", "PIP_INDEX_URL"} & bootstrap.keys()
    assert bootstrap["AWS_ENDPOINT_URL"] == NOWHERE.endpoint_url


def test_a_deployment_is_told_its_settings_but_never_to_be_of_another_stage(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(subprocess, "call", lambda command, **_: seen.extend(command) or 0)
    Deployment(folder, NOWHERE.endpoint_url, {"processors": "/own", "stage": "prod"}).synthesize()
    told = [argument for argument in seen if argument.startswith("--context")]
    assert told == ["--context=processors=/own", "--context=stage=local"]


def test_a_missing_emulator_says_what_to_run(folder, monkeypatch):
    monkeypatch.setattr(emulator, "PYTHON", Path("/no/such/python"))
    with pytest.raises(LocalCloudError, match="make setup"):
        Emulator(folder).start()


def test_without_a_checkout_there_is_nothing_to_deploy(tmp_path, monkeypatch):
    monkeypatch.setattr(deployment, "PROJECT", tmp_path)
    with pytest.raises(LocalCloudError, match="checkout"):
        LocalCloud(tmp_path / "home").up()


# When it must be deployed again


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (
        "app.py",
        "backhaul/model/job.py",
        "tests/test_job.py",
        ".venv/pyvenv.cfg",
        "backhaul/__pycache__/job.pyc",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    return tmp_path


@pytest.mark.parametrize("changed", ["app.py", "backhaul/model/job.py", "processors/mine.py", "anything.toml"])
def test_a_changed_or_new_source_calls_for_another_deployment(project, changed):
    before = fingerprint(project)
    (project / changed).parent.mkdir(exist_ok=True)
    (project / changed).write_text("changed content")
    assert fingerprint(project) != before


def test_another_setting_or_a_changed_processor_of_ones_own_calls_for_another_deployment(
    tmp_path, project, monkeypatch
):
    monkeypatch.setattr("backhaul.local.cloud.PROJECT", project)
    own = tmp_path / ".own"  # no part of the project
    own.mkdir()

    def sources(**told):
        return LocalCloud(tmp_path / "home", **told)._sources()

    first = sources(processors=own)
    (own / "mine.py").write_text("pass")
    found = [first, sources(processors=own), sources(), sources(context={"worker_timeout_seconds": "10"})]
    assert len(set(found)) == 4
    assert sources(processors=own) == found[1]


def test_a_removed_source_calls_for_another_deployment(project):
    before = fingerprint(project)
    (project / "backhaul/model/job.py").unlink()
    assert fingerprint(project) != before


@pytest.mark.parametrize(
    "changed", ["tests/test_job.py", ".venv/pyvenv.cfg", "backhaul/__pycache__/job.pyc", "docs/a.md"]
)
def test_what_is_not_deployed_calls_for_nothing(project, changed):
    before = fingerprint(project)
    (project / changed).parent.mkdir(exist_ok=True)
    (project / changed).write_text("changed content")
    assert fingerprint(project) == before
