"""What the fields of a policy say of themselves: for the command line, the documents and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from msgspec import Meta

from backhaul.model.policy import DEFAULT, Policy, Written


@dataclass(frozen=True)
class PolicyField:
    """One field: its name, as the API has it, and its option on the command line."""

    name: str
    option: str
    description: str
    """A sentence."""
    default: Any
    written: Written
    least: int | None
    most: int | None


def _described(name: str, annotation: Any) -> PolicyField:
    meta: Meta = get_args(annotation)[1]
    extra: dict[str, Any] = meta.extra or {}
    option = extra.get("option") or name.replace("_", "-")
    default = getattr(DEFAULT, name)
    return PolicyField(name, option, meta.description or "", default, extra["written"], meta.ge, meta.le)  # type: ignore[arg-type]


FIELDS = tuple(_described(*each) for each in get_type_hints(Policy, include_extras=True).items())
"""In the order in which `Policy` has them."""
