"""Node's tools, run without an installed Node."""

import subprocess
import sys
from pathlib import Path

import pytest

from backhaul import toolchain
from backhaul.toolchain import PROJECT, ToolchainError


def test_the_cdk_cli_is_the_projects_own_and_so_is_its_node():
    node, script, *arguments = toolchain.command("cdk", "synth", "-q")
    assert Path(node).is_relative_to(sys.prefix)
    assert Path(script).is_relative_to(PROJECT / "node_modules")
    assert arguments == ["synth", "-q"]


def test_an_unknown_tool_is_refused_with_the_known_ones():
    with pytest.raises(ToolchainError, match="cdk, npm"):
        toolchain.command("yarn")


def test_a_missing_cdk_cli_says_what_to_run(monkeypatch):
    monkeypatch.setattr(toolchain, "CDK_CLI", Path("/no/such/cdk"))
    with pytest.raises(ToolchainError, match="make setup"):
        toolchain.command("cdk")


def test_a_missing_node_says_what_to_run(monkeypatch):
    monkeypatch.setattr(toolchain, "find_spec", lambda _name: None)
    with pytest.raises(ToolchainError, match="make setup"):
        toolchain.environment({})


def test_this_python_and_the_bundled_node_come_first_on_the_path():
    environment = toolchain.environment({"PATH": "/usr/bin", "KEPT": "yes"})
    first, second, rest = environment["PATH"].split(":")
    assert first == str(Path(sys.executable).parent)
    assert Path(environment["JSII_NODE"]).parent == Path(second)
    assert rest == "/usr/bin"
    assert environment["KEPT"] == "yes"


def test_it_runs_as_a_file_without_importing_the_package(tmp_path):
    alone = tmp_path / "toolchain.py"
    alone.write_text(Path(toolchain.__file__).read_text())
    run = subprocess.run([sys.executable, "-I", alone, "yarn"], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr == "No tool is called 'yarn'; there are: cdk, npm, node.\n"
