"""The CDK app: `cdk deploy`, `cdk deploy -c stage=prod`, ... Settings are in `stacks/stage.py`."""

import sys
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from stacks.bundle import HOST, LAMBDA, BundleError, assemble, check
from stacks.pipeline import Pipeline
from stacks.stage import DeploymentSettings, InvalidContext


def main() -> None:
    """Write the template and the asset of one deployment."""
    app = cdk.App()
    stage = DeploymentSettings.from_context(app.node.try_get_context)
    check(stage.processors)
    target = HOST if stage.runs_on_host else LAMBDA
    asset = assemble(Path(app.outdir) / "function", target=target, processors=stage.processors)
    Pipeline(app, stage=stage, code=lambda_.Code.from_asset(str(asset)))
    app.synth()


if __name__ == "__main__":
    try:
        main()
    except (InvalidContext, BundleError) as error:
        sys.exit(f"backhaul: {error}")
