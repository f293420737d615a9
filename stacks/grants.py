"""Roles with exactly the grants that are written beside their resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.review import accept_patterns


def allow(*actions: str, on: str | Sequence[str], conditions: Mapping[str, Any] | None = None) -> iam.PolicyStatement:
    """Return a grant of actions on these resources, with conditions if any are given."""
    resources = [on] if isinstance(on, str) else list(on)
    return iam.PolicyStatement(actions=list(actions), resources=resources, conditions=conditions)


def end_waits() -> iam.PolicyStatement:
    """Return the grant that lets its bearer end waits of the state machine: IAM knows no narrower resource for it.

    Only who has a wait's token can end it, and those are in the flow table.
    """
    return allow("states:SendTaskSuccess", on="*")


def describe_stack(stack: Stack) -> iam.PolicyStatement:
    """Return the grant to read the stack's outputs, which `--stack NAME` needs."""
    arn = stack.format_arn(service="cloudformation", resource="stack", resource_name=f"{stack.stack_name}/*")
    return allow("cloudformation:DescribeStacks", on=arn)


def closed_role(
    scope: Construct, name: str, *, service: str, grants: Sequence[iam.PolicyStatement], patterns: str
) -> iam.IRole:
    """Declare a role for an AWS service with exactly these grants; constructs that use it cannot add any.

    `patterns` is the reason why some of its resources are patterns.
    """
    document = iam.PolicyDocument(statements=list(grants))
    role = iam.Role(scope, name, assumed_by=iam.ServicePrincipal(service), inline_policies={"grants": document})
    accept_patterns(role, patterns, grants)
    return role.without_policy_updates()
