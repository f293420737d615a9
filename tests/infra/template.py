"""Reading a synthesized template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Grant = tuple[list[str], list[str]]
"""Actions, and the resources on which they are allowed."""

_HASH = re.compile(r"[0-9A-F]{8}$")


@dataclass(frozen=True)
class Template:
    """A CloudFormation template; resources go by their logical ID without its hash."""

    document: dict[str, Any]

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the resources of a type by name."""
        found = {name: each for name, each in self.document["Resources"].items() if each["Type"] == f"AWS::{kind}"}
        return {_HASH.sub("", name): each for name, each in found.items()}

    def properties(self, kind: str, name: str) -> dict[str, Any]:
        """Return the properties of one resource."""
        properties: dict[str, Any] = self.of_type(kind)[name]["Properties"]
        return properties

    def output(self, name: str) -> str:
        """Return an output of the stack, with resources written as text."""
        return text(self.document["Outputs"][name]["Value"])

    def functions(self) -> dict[str, dict[str, Any]]:
        """Return the properties of every function by the file of its handler."""
        return {
            each["Properties"]["Handler"].split(".")[1]: each["Properties"]
            for each in self.of_type("Lambda::Function").values()
        }

    def state_machine(self) -> dict[str, Any]:
        """Return the definition of the state machine, with resources written as text."""
        (machine,) = self.of_type("StepFunctions::StateMachine").values()
        definition: dict[str, Any] = json.loads(text(machine["Properties"]["DefinitionString"]))
        return definition

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield every statement of every role and policy for identities, with the name of its resource."""
        for name, role in self.of_type("IAM::Role").items():
            for policy in role["Properties"].get("Policies", []):
                yield from ((name, each) for each in policy["PolicyDocument"]["Statement"])
        for kind in ("IAM::Policy", "IAM::ManagedPolicy"):
            for name, policy in self.of_type(kind).items():
                yield from ((name, each) for each in policy["Properties"]["PolicyDocument"]["Statement"])

    def grants(self, function: str) -> list[Grant]:
        """Return what a function's role may do: pairs of actions and resources."""
        role = _HASH.sub("", self.functions()[function]["Role"]["Fn::GetAtt"][0])
        return [grant(each) for name, each in self.statements() if name == role]


def grant(statement: dict[str, Any]) -> Grant:
    """Return the actions and the resources of a statement: `<table>?PREFIX*` for some items of a table."""
    resources = texts(statement["Resource"])
    conditions = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
    items = listed(conditions.get("dynamodb:LeadingKeys", []))
    return listed(statement["Action"]), [f"{each}?{item}" for each in resources for item in items] or resources


def listed(value: Any) -> list[Any]:
    """Return what a template may write as one or as a list, as a list."""
    return value if isinstance(value, list) else [value]


def texts(value: Any) -> list[str]:
    """Return resources as text."""
    return [text(each) for each in listed(value)]


def text(value: Any) -> str:
    """Return an expression as text: `<name>` for a resource, `<name.Attribute>` for an attribute."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(text(part) for part in parts)
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"<{_HASH.sub('', resource)}.{attribute}>"
        case {"Ref": name}:
            return f"<{_HASH.sub('', name)}>"
    return str(value)
