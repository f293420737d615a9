"""What IAM would answer: policies of the template, judged by the simulator `iam-simulate` from npm."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backhaul import toolchain
from tests.infra.template import listed, texts

ACCOUNT = "123456789012"
_SCRIPT = Path(__file__).with_name("simulate.mjs")


Statements = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Request:
    """A call of AWS by who holds these statements and no others; the resource is written as the template names it."""

    statements: Statements
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)
    """What IAM knows of the call besides."""


def allowed(requests: Sequence[Request]) -> list[bool]:
    """Return for each request whether IAM would let it pass. One process judges all: it takes 0.3 s to start."""
    simulations = [
        {
            "identityPolicies": [{"name": "policy", "policy": _policy(request.statements)}],
            "serviceControlPolicies": [],
            "resourceControlPolicies": [],
            "request": {
                "action": request.action,
                "principal": f"arn:aws:iam::{ACCOUNT}:role/role",
                "resource": {"accountId": ACCOUNT, "resource": _arn(request.resource)},
                "contextVariables": dict(request.context),
            },
        }
        for request in requests
    ]
    done = subprocess.run(
        toolchain.command("node", str(_SCRIPT)),
        env=toolchain.environment(os.environ),
        input=json.dumps(simulations),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [answer == "Allowed" for answer in json.loads(done.stdout)]


def _policy(statements: Statements) -> dict[str, Any]:
    concrete = [
        {**each, "Action": listed(each["Action"]), "Resource": [_arn(resource) for resource in texts(each["Resource"])]}
        for each in statements
    ]
    return {"Version": "2012-10-17", "Statement": concrete}


def _arn(resource: str) -> str:
    """Return a table's ARN; those of other resources are not judged, and only have to look like ARNs."""
    for table in ("jobs", "flow"):
        resource = resource.replace(f"<storage{table}.Arn>", f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/{table}")
    named = resource.replace("<", "").replace(">", "")
    return named if named.startswith(("arn:", "*")) else f"arn:aws:service:us-east-1:{ACCOUNT}:{named}"
