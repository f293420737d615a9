"""The app as the CDK CLI runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from backhaul.toolchain import PROJECT
from stacks.bundle import LAMBDA, WHEELS, installed, requirements
from tests.infra.conftest import CONTEXT


def run_app(output: Path, **context: object) -> subprocess.CompletedProcess[str]:
    """Run `app.py` with nothing on the path, no credentials, and a proxy where nobody listens."""
    return subprocess.run(
        [sys.executable, "app.py"],
        cwd=PROJECT,
        env={
            "JSII_NODE": os.environ["JSII_NODE"],
            "HOME": str(output),
            "PATH": "",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "CDK_OUTDIR": str(output),
            "CDK_VALIDATION": "false",
            "CDK_CONTEXT_JSON": json.dumps({**CONTEXT, **context}),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_synthesis_asks_neither_aws_nor_git_nor_anybody(tmp_path: Path):
    installed(requirements(PROJECT / "processors"), LAMBDA, WHEELS)
    done = run_app(tmp_path, stage="prod")
    assert done.returncode == 0, done.stderr
    functions = json.loads((tmp_path / "Backhaul-prod.template.json").read_text())["Resources"].values()
    assets = {each["Properties"]["Code"]["S3Key"] for each in functions if each["Type"] == "AWS::Lambda::Function"}
    (asset,) = assets
    assert (tmp_path / f"asset.{asset.removesuffix('.zip')}" / "lambdas" / "plan.py").is_file()


def test_broken_processors_are_refused_each_with_its_place_and_problem(tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "first.py").write_text("x = 1\ny = (\n")
    (mine / "second.py").write_text("import no_such_module\n")
    (mine / "third.py").write_text("from backhaul import Processor\n\nclass Third(Processor):\n    name = 'third'\n")
    done = run_app(tmp_path / "out", processors=str(mine))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-4:] == [
        "backhaul: Nothing was deployed, because these processors would not work:",
        f"{mine}/first.py, line 2: SyntaxError: '(' was never closed",
        f"{mine}/second.py, line 1: ModuleNotFoundError: No module named 'no_such_module'",
        f"{mine}/third.py, line 3, class Third: Override process or process_chunk.",
    ]
    assert "Traceback" not in done.stderr


def test_wrong_context_is_answered_in_one_line(tmp_path: Path):
    done = run_app(tmp_path, retention_days="a while")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "backhaul: Context retention_days='a while': use a whole number from 2 to 3,650."
    )
    assert "Traceback" not in done.stderr
