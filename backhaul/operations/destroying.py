"""Destroys a deployment: which stacks may be deleted, and in which order their parts go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backhaul.model.errors import DeploymentUnreachable, InvalidRequest, StoreRefused
from backhaul.store.stacks import DeployedStack, StackResource, StackStore

DESCRIPTION = "Backhaul: background file processing"
"""The description of every Backhaul stack: it tells the stack from the account's other stacks."""
MAX_DELETIONS = 5
"""How often a stack's deletion is tried: S3 delivers access logs for hours, so an emptied bucket may fill again."""

_NEVER_CREATED = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")
"""States of a stack whose first deployment did not succeed: no job ever ran in it."""
_BEING_DELETED = "DELETE_IN_PROGRESS"


@dataclass(frozen=True)
class Destruction:
    """A stack that may be deleted, and the buckets that will be emptied for it."""

    stack: DeployedStack
    buckets: tuple[str, ...]

    @property
    def was_never_created(self) -> bool:
        """Whether the stack's first deployment failed."""
        return self.stack.status in _NEVER_CREATED


def prepare(name: str, stacks: StackStore) -> Destruction:
    """Return what destroying a stack would delete; raises `InvalidRequest` for a stack that must not be destroyed."""
    stack = stacks.find(name)
    if stack is None:
        raise DeploymentUnreachable(f"There is no stack {name!r} in this account and region.")
    if stack.description != DESCRIPTION:
        raise InvalidRequest(f"The stack {stack.name} is no deployment of Backhaul, so it was left alone.")
    found = Destruction(stack, tuple(each.identity for each in stacks.resources(stack) if each.is_bucket))
    if found.was_never_created:
        return found
    if stack.status.endswith("_IN_PROGRESS") and stack.status != _BEING_DELETED:
        raise InvalidRequest(f"The stack {stack.name} is {stack.status}. Wait until that has ended, then try again.")
    if stack.is_protected or stacks.keeps_data(stack):
        raise InvalidRequest(
            f"The stack {stack.name} is a production deployment, which keeps its data, so it was left alone. "
            "docs/security.md says how to remove one."
        )
    return found


def destroy(prepared: Destruction, stacks: StackStore, emptied: Callable[[str, int], None]) -> None:
    """Empty the buckets, delete the stack and wait until it is gone; `emptied` is told after each page of objects.

    Raises `StoreRefused` naming what CloudFormation could not delete.
    """
    stack, buckets = prepared.stack, prepared.buckets
    if stack.is_protected and prepared.was_never_created:
        stacks.unprotect(stack)
    for _ in range(MAX_DELETIONS):
        for bucket in buckets:
            for objects in stacks.empty(bucket):
                emptied(bucket, objects)
            if prepared.was_never_created:
                # CloudFormation would leave a production stack's bucket behind, and the next deployment needs its name.
                stacks.delete_bucket(bucket)
        if stacks.delete(stack):
            return
        failed = [each for each in stacks.resources(stack) if each.failed]
        buckets = tuple(each.identity for each in failed if each.is_bucket)
        if not buckets:  # another kind of resource failed, and would fail again
            break
    raise StoreRefused(f"CloudFormation did not delete the stack {stack.name}. {_named(failed)}")


def _named(failed: list[StackResource]) -> str:
    if not failed:
        return "Its events in the console say why."
    return " ".join(f"{each.name} ({each.kind}): {each.reason or 'no reason given'}." for each in failed)
