"""`make deploy` against a real CloudFormation, that of the local cloud: settings are not dropped unsaid."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from backhaul.local.access import REGION
from tests.e2e.support import PROJECT, admin_client

STACK = "Second-local"
MODEL = "eu.amazon.nova-lite-v1:0"

Deploy = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def deploy(cloud, cloud_home) -> Iterator[Deploy]:
    """Runs what `make deploy ARGS=...` runs, for a second stack, with nobody at the terminal."""
    root = cloud.as_root().session.get_credentials()
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    own = {
        "AWS_ENDPOINT_URL": cloud.endpoint_url,
        "AWS_ACCESS_KEY_ID": root.access_key,
        "AWS_SECRET_ACCESS_KEY": root.secret_key,
        "AWS_REGION": REGION,
        "AWS_CA_BUNDLE": str(cloud.ca_bundle),
        "NODE_EXTRA_CA_CERTS": str(cloud.ca_bundle),
        "CDK_HOME": str(cloud_home / "state" / "cdk"),
        "CDK_DISABLE_CLI_TELEMETRY": "true",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "scripts.deploy", "-c", "stage=local", "-c", "name=Second", *arguments),
                *("--require-approval=never", "--method=direct", "--progress=events", "--no-notices"),
            ],
            cwd=PROJECT,
            env={**mine, **own},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    yield run
    admin_client(cloud, "cloudformation").delete_stack(StackName=STACK)


def test_a_setting_is_kept_dropped_or_refused_but_never_lost_unsaid(deploy: Deploy, cloud):
    def models() -> list[str]:
        template = admin_client(cloud, "cloudformation").get_template(StackName=STACK)["TemplateBody"]
        return template["Metadata"]["BackhaulSettings"]["bedrock_models"]

    first = deploy("-c", f"bedrock_models={MODEL}")
    assert first.returncode == 0, first.stderr
    assert models() == [MODEL]

    forgotten = deploy()
    assert forgotten.returncode == 1
    assert f"bedrock_models: {MODEL} would become the default" in forgotten.stderr
    assert f"-c bedrock_models={MODEL}" in forgotten.stderr
    assert forgotten.stderr.splitlines()[-1].startswith("Nothing was deployed: settings may change")
    assert models() == [MODEL]

    on_purpose = deploy("-c", "bedrock_models=")
    assert on_purpose.returncode == 0, on_purpose.stderr
    assert f"bedrock_models: {MODEL} would become the default" in on_purpose.stderr
    assert models() == []
