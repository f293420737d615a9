"""Findings of the rule packs that a review has accepted, declared with the reason beside their resource."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aws_cdk import Acknowledgment, Stack, Validations
from aws_cdk import aws_iam as iam
from constructs import Construct


def accept(construct: Construct, reason: str, *rules: str) -> None:
    """Accept the findings of these rules on a construct, for this reason."""
    Validations.of(construct).acknowledge(*(Acknowledgment(id=rule, reason=reason) for rule in rules))


def accept_patterns(construct: Construct, reason: str, statements: Iterable[iam.PolicyStatement]) -> None:
    """Accept each pattern among the resources of these statements; the rules still find any other pattern."""
    resources = (resource for statement in statements for resource in statement.resources)
    texts = {_text(Stack.of(construct).resolve(resource)) for resource in resources}
    found = sorted(f"AwsSolutions-IAM5[Resource::{text}]" for text in texts if "*" in text)
    accept(construct, reason, "Serverless-LambdaStarPermissions", *found)


def _text(value: Any) -> str:
    """Return a template's expression as the rule packs write it."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_text(part) for part in parts)
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{resource}.{attribute}>"
        case {"Ref": name}:
            return f"<{name}>"
    return str(value)
