"""Deployments that fail, and deployments that are removed: the real templates, on an emulator of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backhaul.cli.exits import Exit
from backhaul.local.access import ROOT, Access
from backhaul.local.emulator import Emulator
from backhaul.local.folder import Folder
from tests.e2e.support import PROJECT, eventually
from tests.infra.conftest import synthesized

PROD, DEV, ASSETS = "Backhaul-prod", "Backhaul-dev", "cdk-assets"


class Account:
    """An emulated account without a stack, and the command line of whoever deploys to it."""

    def __init__(self, endpoint_url: str, folder: Folder) -> None:
        self._endpoint_url = endpoint_url
        self._ca = folder.tls / "ca.pem"
        self._access = Access.as_root(endpoint_url, self._ca, folder.root_secret)
        self._environment = {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_CA_BUNDLE": str(self._ca),
            "AWS_ACCESS_KEY_ID": ROOT,
            "AWS_SECRET_ACCESS_KEY": folder.root_secret,
            "AWS_REGION": "us-east-1",
            "NODE_EXTRA_CA_CERTS": str(self._ca),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            "HOME": str(folder.state),
            "PATH": os.defpath,
        }
        self._s3 = self.client("s3")
        self._s3.create_bucket(Bucket=ASSETS)

    def client(self, service: str) -> Any:
        return self._access.session.client(service, **self._access.options)

    def deploy(self, stack: str, template: dict[str, Any], *, protected: bool = False) -> str:
        """Make a stack as the CDK CLI does, and return what it came to."""
        # Every template of the CDK asks which version the bootstrap stack has.
        version = {"Name": "/cdk-bootstrap/hnb659fds/version", "Value": "30", "Type": "String", "Overwrite": True}
        self.client("ssm").put_parameter(**version)
        self._s3.put_object(Bucket=ASSETS, Key="template.json", Body=json.dumps(template).encode())
        self.client("cloudformation").create_stack(
            StackName=stack,
            TemplateURL=f"{self._endpoint_url}/{ASSETS}/template.json",
            Capabilities=["CAPABILITY_IAM"],
            EnableTerminationProtection=protected,
        )
        return eventually(lambda: self.status(stack), lambda status: not status.endswith("_IN_PROGRESS"))

    def status(self, stack: str) -> str:
        (found,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return found["StackStatus"]

    def holds(self) -> dict[str, list[str]]:
        """Return what a failed or deleted deployment could leave behind."""
        return {
            "buckets": [each["Name"] for each in self._s3.list_buckets()["Buckets"] if each["Name"] != ASSETS],
            "tables": self.client("dynamodb").list_tables()["TableNames"],
            "vended logs": [each["logGroupName"] for each in self._vended_logs()],
            "queues": self.client("sqs").list_queues().get("QueueUrls", []),
        }

    def _vended_logs(self) -> Any:
        # Not all: the emulator makes a log group anew when a function writes to it after its removal.
        logs = self.client("logs")
        return logs.describe_log_groups(logGroupNamePrefix="/aws/vendedlogs/")["logGroups"]

    def destroy(self, *arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", "import sys; from backhaul.cli import main; sys.exit(main())", "destroy"]
        return self.run(*command, *arguments)

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command of the checkout, and return its exit code and what it told people."""
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stderr


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    folder = Folder(tmp_path)
    with folder.locked():
        folder.renew()
    emulator = Emulator(folder)
    try:
        yield Account(emulator.start(), folder)
    finally:
        emulator.stop()


def test_make_bootstrap_prepares_an_account_with_the_pinned_cdk(account: Account, tmp_path: Path):
    # Into a folder of its own: another test may synthesize at the same time.
    code, said = account.run("make", "bootstrap", f"ARGS=aws://000000000000/us-east-1 --output {tmp_path / 'cdk.out'}")
    assert code == 0, said
    assert account.status("CDKToolkit") == "CREATE_COMPLETE"


def test_a_first_production_deployment_that_fails_leaves_nothing_and_can_be_tried_again(account: Account):
    template = synthesized(stage="prod").document
    handle = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
    # Last of all resources comes one that waits for a signal that nobody sends.
    never = {"Handle": {"Ref": "handle"}, "Timeout": "1"}
    last = {"Type": "AWS::CloudFormation::WaitCondition", "Properties": never, "DependsOn": list(template["Resources"])}
    broken = template["Resources"] | {"handle": handle, "last": last}
    assert account.deploy(PROD, template | {"Resources": broken}, protected=True) == "ROLLBACK_COMPLETE"
    assert not any(account.holds().values())
    code, said = account.destroy(PROD, "--yes")
    assert (code, "Deleted Backhaul-prod" in said) == (Exit.SUCCEEDED, True), said
    assert account.deploy(PROD, template, protected=True) == "CREATE_COMPLETE"
    code, said = account.destroy(PROD, "--yes")
    assert (code, "is a production deployment, which keeps its data" in said) == (Exit.REFUSED, True), said
    assert account.status(PROD) == "CREATE_COMPLETE"
    assert all(account.holds().values())


def test_a_development_deployment_is_destroyed_with_all_versions_of_its_files(account: Account):
    assert account.deploy(DEV, synthesized().document) == "CREATE_COMPLETE"
    s3 = account.client("s3")
    (data,) = [name for name in account.holds()["buckets"] if "-data-" in name]
    for body in (b"one", b"two"):
        s3.put_object(Bucket=data, Key="t/x", Body=body)
    s3.delete_object(Bucket=data, Key="t/x")
    code, said = account.destroy(DEV)  # nobody is there to type the name
    assert (code, account.status(DEV)) == (Exit.INTERRUPTED, "CREATE_COMPLETE"), said
    code, said = account.destroy(DEV, "--yes")
    assert (code, "Deleted Backhaul-dev and 3 objects." in said) == (Exit.SUCCEEDED, True), said
    assert not any(account.holds().values())
    assert account.deploy(DEV, synthesized().document) == "CREATE_COMPLETE"
