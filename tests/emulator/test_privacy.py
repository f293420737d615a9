"""What a local cloud gives to somebody who does not hold its keys: nothing. And what it leaves running: nothing."""

import hashlib
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import httpx
import psutil
import pytest
from botocore.config import Config

from backhaul.local.access import REGION, ROOT, Access
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from tests.e2e.support import eventually

NOBODY = 65534
SECONDS_UNTIL_AN_ORPHAN_IS_ENDED = 15

# A function whose child has a session and an environment of its own, so that only its descent tells whose it is.
FUNCTION = """
import boto3, os, subprocess, sys, time
def handler(event, context):
    if event.get("who"):
        return {"arn": boto3.client("sts").get_caller_identity()["Arn"], "environment": dict(os.environ)}
    sleep = [sys.executable, "-c", f"import time; time.sleep(600)  # {event['mark']}"]
    subprocess.Popen(sleep, env={}, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if event["end"] == "exit":
        os._exit(1)
    if event["end"] == "time out":
        time.sleep(600)
"""


class Site:
    """An emulator without a stack, in a folder whose parents everybody may enter."""

    def __init__(self, home: Path) -> None:
        self.folder = Folder(home)
        with self.folder.locked():
            self.folder.renew()
        self.emulator = Emulator(self.folder)
        self.url = self.emulator.start()
        self.ca = self.folder.tls / "ca.pem"
        self.trusted = ssl.create_default_context(cafile=self.ca)

    def client(self, service: str, secret: str | None = None, key: str = ROOT) -> Any:
        access = Access.of(self.url, self.ca, key, secret or self.folder.root_secret)
        config = Config(proxies={}, signature_version="s3v4" if service == "s3" else "v4")
        return access.session.client(service, **{**access.options, "config": config})

    def send(self, method: str, path: str, **request: Any) -> httpx.Response:
        url = path if path.startswith("https://") else self.url + path
        return httpx.request(method, url, verify=self.trusted, trust_env=False, **request)

    def function(self) -> str:
        """Make a function, and return its name."""
        assume = '{"Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "*"}}'
        self.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument=assume)
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("code.py", FUNCTION)
        self.client("lambda").create_function(
            FunctionName="function",
            Role="arn:aws:iam::000000000000:role/role",
            Runtime="python3.13",
            Handler="code.handler",
            Code={"ZipFile": code.getvalue()},
            Timeout=5,
        )
        return "function"

    def invoke(self, **event: Any) -> bytes:
        answer = self.client("lambda").invoke(FunctionName="function", Payload=json.dumps(event))
        return answer["Payload"].read()


@pytest.fixture
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        site = Site(Path(public) / "home")
        yield site
        site.emulator.stop()
        assert site.emulator.processes() == []


def refused(call: Any) -> bool:
    try:
        call()
    except botocore.exceptions.ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == httpx.codes.FORBIDDEN
    return False


UNSIGNED = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/_localstack/health"),
    ("GET", "/_ministack/health"),
    ("HEAD", "/_ministack/health"),
    ("OPTIONS", "/_ministack/health"),
    ("POST", "/_ministack/reset"),
    ("POST", "/_ministack/config"),
    ("POST", "/_ministack/rds/iam-auth"),
    ("GET", "/_ministack/sqs/messages"),
    ("GET", "/_ministack/lambda-code/function"),
    ("PUT", "/_ministack/cfn-signal/token"),
    ("GET", "/latest/meta-data/iam/security-credentials/ministack-instance-role"),
    ("GET", "/v2/_catalog"),
    ("POST", "/oauth2/token"),
    ("GET", "/private/key"),
    ("PUT", "/private/key"),
    ("GET", "/_aws/execute-api/abc/$default/jobs"),
    ("GET", "/_aws/lambda-url/abc/"),
]


def test_what_nobody_signed_is_refused_administration_included(site: Site):
    site.client("s3").create_bucket(Bucket="private")
    site.client("s3").put_object(Bucket="private", Key="key", Body=b"data")
    answers = {(method, path): site.send(method, path).status_code for method, path in UNSIGNED}
    assert set(answers.values()) == {httpx.codes.FORBIDDEN}, answers
    assert site.client("s3").get_object(Bucket="private", Key="key")["Body"].read() == b"data"


def test_the_root_key_needs_this_clouds_own_secret(site: Site):
    for key in (ROOT, "000000000000"):
        for service, call in (("iam", "list_users"), ("s3", "list_buckets"), ("sts", "get_caller_identity")):
            assert refused(getattr(site.client(service, "test", key), call)), (key, service)
    assert site.client("iam").list_users()["Users"] == []
    assert site.folder.root_secret not in str(site.send("GET", "/").headers)


def test_administration_is_for_root_alone(site: Site):
    site.client("iam").create_user(UserName="user")
    key = site.client("iam").create_access_key(UserName="user")["AccessKey"]
    user = site.client("s3", key["SecretAccessKey"], key["AccessKeyId"])
    # A presigned URL is any signed GET; the host's path stands where the bucket and the key would.
    for client, status in ((user, 403), (site.client("s3"), 200)):
        url = client.generate_presigned_url("get_object", {"Bucket": "_ministack", "Key": "health"})
        assert site.send("GET", url).status_code == status


def test_presigned_forms_and_urls_are_good_and_forged_ones_are_not(site: Site):
    s3 = site.client("s3")
    s3.create_bucket(Bucket="private")
    form = s3.generate_presigned_post("private", "key")
    forged = {**form["fields"], "x-amz-signature": "0" * 64}

    def post(fields: dict[str, str]) -> int:
        return site.send("POST", "/private", data=fields, files={"file": b"\xff data"}).status_code

    assert [post(form["fields"]), post(forged), post({"key": "key"})] == [204, 403, 403]
    url = s3.generate_presigned_url("get_object", {"Bucket": "private", "Key": "key"})
    assert site.send("GET", url).content == b"\xff data"
    assert site.send("GET", f"{url[:-4]}0000").status_code == httpx.codes.FORBIDDEN


def test_a_functions_key_follows_from_no_name_and_a_function_never_sees_roots(site: Site):
    name = site.function()
    assert b"assumed-role/role/function" in (answer := site.invoke(who=True))
    assert site.folder.root_secret.encode() not in answer
    # What the emulator would make of the names, which everybody who reads its source can repeat.
    arn = f"arn:aws:lambda:{REGION}:000000000000:function:{name}"
    digest = hashlib.sha256(f"{arn}:arn:aws:iam::000000000000:role/role".encode()).hexdigest()
    secret = hashlib.sha256(f"secret:{digest}".encode()).hexdigest()
    guessed = site.client("sts", secret, f"ASIA{digest[:16].upper()}")
    guessed._request_signer._credentials.token = hashlib.sha256(f"token:{digest}".encode()).hexdigest()
    assert refused(guessed.get_caller_identity)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_gets_no_file_no_environment_and_no_answer(site: Site):
    pids = [process.pid for process in site.emulator.processes()]
    script = f"""
import http.client, os, ssl
from pathlib import Path
"".encode("idna")  # what is imported late could not be read any more
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
home = Path({str(site.folder.home)!r})
read = []
for name in ["", "lock", "state", "state/root-secret", "state/tls/server.key", "state/emulator.log"]:
    try:
        path = home / name
        read.append(list(path.iterdir()) if name in ("", "state") else path.read_bytes())
    except PermissionError:
        pass
for pid in {pids}:
    assert b"gate.py" in Path(f"/proc/{{pid}}/cmdline").read_bytes()
    assert {site.folder.root_secret.encode()!r} not in Path(f"/proc/{{pid}}/cmdline").read_bytes()
    try:
        read.append(Path(f"/proc/{{pid}}/environ").read_bytes())
    except PermissionError:
        pass
for path in ["/", "/_ministack/health", "/latest/meta-data/iam/security-credentials/ministack-instance-role"]:
    connection = http.client.HTTPSConnection({site.url.rpartition("/")[2]!r}, context=ssl._create_unverified_context())
    connection.request("GET", path)
    assert connection.getresponse().status == 403
print("read", read)
"""
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "read []\n", done.stderr


def test_the_folder_shuts_others_out_also_below_a_home_that_everybody_may_enter(site: Site):
    site.folder.home.chmod(0o755)
    assert site.folder.state.stat().st_mode & 0o777 == 0o700
    files = [site.folder.home / "lock", site.folder.state / "root-secret"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


# What is left running


def living(mark: str) -> list[psutil.Process]:
    """The processes that bear a mark, dead ones that nobody has collected not counted."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and mark in " ".join(process.info["cmdline"] or []):
            found.append(process)
    return found


def gone(mark: str) -> bool:
    eventually(lambda: living(mark), lambda found: not found, SECONDS_UNTIL_AN_ORPHAN_IS_ENDED)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child without the cloud's environment is not found")
@pytest.mark.parametrize("end", ["exit", "time out"])
def test_a_workers_children_die_with_it(site: Site, end: str):
    site.function()
    site.invoke(mark=(mark := f"child-{site.folder.home.parent.name}"), end=end)
    assert gone(mark)


def test_a_workers_children_live_as_long_as_the_worker(site: Site):
    site.function()
    site.invoke(mark=(mark := f"child-{site.folder.home.parent.name}"), end="return")
    site.invoke(who=True)
    (child,) = living(mark)
    worker = child.parent()
    assert "_worker.py" in " ".join(worker.cmdline())
    worker.kill()
    assert gone(mark)


@pytest.mark.parametrize("killed", ["keeper.py", "gate.py", "_worker.py"])
def test_nothing_is_left_of_a_cloud_of_which_one_process_is_killed(site: Site, killed: str):
    site.function()
    site.invoke(mark=(mark := f"child-{site.folder.home.parent.name}"), end="return")
    # The emulator's own command line is the keeper's last argument as well.
    (victim,) = [each for each in site.emulator.processes() if killed in " ".join(each.cmdline()[:3])]
    victim.send_signal(signal.SIGKILL)
    if killed == "gate.py":
        eventually(site.emulator.processes, lambda left: not left, SECONDS_UNTIL_AN_ORPHAN_IS_ENDED)
    was_running = site.emulator.stop()
    if killed != "keeper.py":  # an emulator that has lost its keeper ends by itself, sooner or later than this
        assert was_running is (killed != "gate.py")
    assert living(str(site.folder.home)) == []
    if killed != "keeper.py":  # a child without the cloud's environment is the keeper's to find
        assert living(mark) == []
