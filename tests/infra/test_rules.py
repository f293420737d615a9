"""Other people's rules: CloudFormation's own schemas, and two packs of cdk-nag."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from aws_cdk import App, Validations
from aws_cdk import aws_iam as iam
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
from cfnlint.api import lint
from cfnlint.config import ManualArgs

from tests.infra.conftest import build
from tests.infra.template import Template


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_cfn_lint_finds_nothing(stage: str, synthesize: Callable[..., Template]):
    template = synthesize(stage=stage, cors_origins="https://app.example", alarm_emails="ops@example.com").document
    assert lint(json.dumps(template), config=ManualArgs(regions=["us-east-1", "eu-central-1"])) == []


def test_cdk_nag_finds_nothing_that_was_not_accepted_with_a_reason():
    app, _ = build(stage="prod", alarm_emails="ops@example.com")
    assert findings(app) == []


def test_cdk_nag_would_find_a_grant_that_nobody_accepted():
    app, pipeline = build()
    role = iam.Role(pipeline, "open", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    role.add_to_policy(iam.PolicyStatement(actions=["s3:*"], resources=["*"]))
    assert {"AwsSolutions-IAM5[Action::s3:*]", "AwsSolutions-IAM5[Resource::*]"} <= set(findings(app))


def findings(app: App) -> list[str]:
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))
    with suppress(RuntimeError):  # the report says more
        app.synth()
    report = json.loads((Path(app.outdir) / "validation-report.json").read_text())
    return [found["ruleName"] for pack in report["pluginReports"] for found in pack["violations"]]
