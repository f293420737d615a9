"""`make deploy`: the CDK CLI's deployment, after a look at what would become of the settings of the deployed stack.

Settings are given anew with each deployment, so one that was forgotten would be dropped. The stack's template remembers
them; a change that the command line does not name has to be confirmed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from backhaul import toolchain
from backhaul.model.settings import Settings
from backhaul.operations import lambda_quota
from backhaul.operations.connection import REMEMBERED
from backhaul.store import Store
from backhaul.toolchain import PROJECT

ASSEMBLY = PROJECT / "cdk.out"
QUOTA_SETTING = "account_concurrency"
_CDK_REGION = "us-east-1"
"""Where the CDK CLI deploys if nothing names a region."""
_NO_SUCH_STACK = "ValidationError"


class Refused(Exception):
    """Nothing is deployed; says why and what to do."""


@dataclass(frozen=True)
class Change:
    """A setting of the deployed stack that would have another value."""

    name: str
    before: Any
    after: Any
    named: bool
    """Whether the command line names it, so that the change is meant."""

    def __str__(self) -> str:
        return f"  {self.name}: {shown(self.before)} would become {shown(self.after)}"


def main(arguments: Sequence[str]) -> int:
    """Deploy with these arguments of `cdk deploy`, and return the exit code."""
    options, others = _parser().parse_known_args(arguments)
    where = [f"--{name}={value}" for name in ("profile", "region") if (value := getattr(options, name))]
    try:
        session = _session(options.profile, options.region)
        context = with_quota(options.context, session)
        if code := _cdk("synth", "--quiet", f"--output={ASSEMBLY}", *where, *(f"--context={each}" for each in context)):
            return code
        stack, after = synthesized(ASSEMBLY)
        confirm(stack, changes(deployed(stack, session, yes=options.yes), after, named_in(context)), yes=options.yes)
        return _cdk("deploy", f"--app={ASSEMBLY}", *where, *others)
    except (Refused, toolchain.ToolchainError, BotoCoreError) as error:
        _say(f"Nothing was deployed: {error}")
        return 1


def with_quota(context: Sequence[str], session: boto3.Session) -> list[str]:
    """Return the context, and with it the account's quota of Lambda, if nothing names it and Lambda tells it."""
    configured = json.loads((PROJECT / "cdk.json").read_text())["context"]
    if QUOTA_SETTING in named_in(context) or QUOTA_SETTING in configured:
        return list(context)
    try:
        quota = Store(Settings(), client=session.client).concurrency_quota()
    except (BotoCoreError, ClientError) as error:
        _say(f"Lambda does not tell the account's quota {lambda_quota.QUOTA_CODE}: {error}")
        return list(context)
    return [*context, f"{QUOTA_SETTING}={quota}"]


def named_in(context: Sequence[str]) -> set[str]:
    """Return the names of the settings in `NAME=VALUE`."""
    return {each.partition("=")[0] for each in context}


def synthesized(assembly: Path) -> tuple[str, Mapping[str, Any]]:
    """Return the name of the stack that was synthesized, and its settings."""
    artifacts = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    ((name, stack),) = [each for each in artifacts.items() if each[1]["type"] == "aws:cloudformation:stack"]
    template = json.loads((assembly / stack["properties"]["templateFile"]).read_text())
    return name, template["Metadata"][REMEMBERED]


def deployed(stack: str, session: boto3.Session, *, yes: bool) -> Mapping[str, Any] | None:
    """Return the settings that the deployed stack remembers; of one that does not exist, none.

    None if the stack remembers nothing, or, with `yes`, cannot be read. Raises `Refused`.
    """
    client = session.client("cloudformation")
    try:
        template = client.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    except ClientError as error:
        if error.response["Error"]["Code"] == _NO_SUCH_STACK:
            return {}
        if yes:
            return None
        raise Refused(
            f"the settings of {stack} cannot be read. Get the right cloudformation:GetTemplate on it, or add --yes to "
            f"deploy without knowing what would change. {error}"
        ) from error
    return template.get("Metadata", {}).get(REMEMBERED) if isinstance(template, dict) else None


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any], named: Collection[str]) -> list[Change] | None:
    """Return what would change of what is remembered; None if nothing is known of it."""
    if before is None:
        return None
    differing = [name for name in before if before[name] != after.get(name)]
    return [Change(name, before[name], after.get(name), name in named) for name in differing]


def confirm(stack: str, found: Sequence[Change] | None, *, yes: bool) -> None:
    """Say what would change of a stack's settings; unless the command line names all of it, ask. Raises `Refused`."""
    if found is None:
        _say(
            f"With which settings {stack} was deployed is not known. Those that the command does not name "
            "become the default."
        )
    elif found:
        _say(f"Settings of {stack} would change:", *(str(each) for each in found))
    unnamed = [each for each in found or () if not each.named]
    if yes or (found is not None and not unnamed):
        return
    if unnamed:
        _say("To keep those that the command does not name, add:", f"  {kept(unnamed)}")
    if not sys.stdin.isatty():
        raise Refused(
            "settings may change that the command does not name, and there is nobody to ask. Name each with "
            "-c NAME=VALUE, or with -c NAME= for the default; or add --yes."
        )
    if input("Deploy all the same? [y/N] ").strip().lower() not in ("y", "yes"):
        raise Refused("you did not say yes.")


def kept(unnamed: Sequence[Change]) -> str:
    """Return what to write so that these settings stay as they are."""
    values = ((each.name, written(each.before)) for each in unnamed)
    return " ".join(f"-c {name}={shlex.quote(value) if value else ''}" for name, value in values)


def written(value: Any) -> str:
    """Return a setting's value as `-c` takes it."""
    return ",".join(value) if isinstance(value, list) else str(value)


def shown(value: Any) -> str:
    """Return a setting's value for people."""
    if value is None:
        return "no setting any more"
    return written(value) or "the default"


def _session(profile: str | None, region: str | None) -> boto3.Session:
    # Of its own accord boto3 knows nothing of AWS_REGION, which the CDK CLI prefers.
    session = boto3.Session(profile_name=profile, region_name=region or os.environ.get("AWS_REGION") or None)
    return session if session.region_name else boto3.Session(profile_name=profile, region_name=_CDK_REGION)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make deploy", allow_abbrev=False, add_help=False)
    parser.add_argument("-c", "--context", action="append", default=[])
    parser.add_argument("--profile")
    parser.add_argument("--region")
    parser.add_argument("--yes", action="store_true")
    return parser


def _cdk(action: str, *arguments: str) -> int:
    command = toolchain.command("cdk", action, *arguments)
    return subprocess.call(command, cwd=PROJECT, env=toolchain.environment(os.environ))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
