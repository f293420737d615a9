"""Templates, synthesized in this process with a placeholder instead of the asset."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from backhaul import toolchain

# Before aws_cdk is imported: jsii needs Node, and nobody has to have one.
os.environ.setdefault("JSII_NODE", toolchain.environment(os.environ)["JSII_NODE"])

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from stacks.pipeline import Pipeline
from stacks.stage import DeploymentSettings
from tests.infra.template import Template

CONTEXT = json.loads((toolchain.PROJECT / "cdk.json").read_text())["context"]


def build(**settings: Any) -> tuple[cdk.App, Pipeline]:
    """Return an app with one pipeline in it, not yet synthesized."""
    # The CDK's own validation costs three seconds; cfn-lint looks at the same template in its own test.
    app = cdk.App(context=CONTEXT, builtin_cloud_formation_validation=False)
    stage = DeploymentSettings.from_context(settings.get)
    return app, Pipeline(app, stage=stage, code=lambda_.Code.from_inline("placeholder"))


@cache
def synthesized(**settings: Any) -> Template:
    """Return the template of a deployment with these context values."""
    app, pipeline = build(**settings)
    return Template(app.synth().get_stack_by_name(pipeline.stack_name).template)


@pytest.fixture(scope="session")
def synthesize() -> Callable[..., Template]:
    """Return a function that gives the template of a deployment with these context values."""
    return synthesized


@pytest.fixture(scope="session")
def template() -> Template:
    """Return the template of a development stage."""
    return synthesized()
