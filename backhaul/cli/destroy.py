"""The command `destroy`: deletes a development stack with all of its data."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from backhaul.cli.exits import Exit
from backhaul.cli.screen import console, plain, say
from backhaul.client.discovery import deployer
from backhaul.operations import destroying
from backhaul.operations.destroying import Destruction


def destroy(
    stack: Annotated[str, typer.Argument(metavar="STACK", help="The stack's name, such as Backhaul-dev.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> int:
    """Delete a development stack: every job, every file, and then the stack itself.

    It empties the stack's buckets first, because S3 deletes only empty ones. A production stack is refused, unless
    its first deployment failed, so that nothing ever ran in it. You need the same rights as to deploy.
    """
    stacks = deployer()
    prepared = destroying.prepare(stack, stacks)
    if not yes and not _confirmed(prepared):
        say(f"That is not the stack's name, {plain(prepared.stack.name)}. Nothing was deleted.")
        return Exit.REFUSED
    objects: Counter[str] = Counter()
    with console.status("Emptying the buckets") as status:

        def emptied(bucket: str, more: int) -> None:
            objects[bucket] += more
            status.update(f"Emptied {plain(bucket)} of {objects[bucket]:,} objects; then the stack is deleted")

        destroying.destroy(prepared, stacks, emptied)
    say(f"Deleted {plain(prepared.stack.name)} and {objects.total():,} objects.")
    return Exit.SUCCEEDED


def _confirmed(prepared: Destruction) -> bool:
    name = prepared.stack.name
    if prepared.was_never_created:
        say(f"The first deployment of {plain(name)} failed. This deletes what is left of it.")
    else:
        say(f"This deletes {plain(name)} for good: its jobs, their files and results, its tables, logs and queues.")
    for bucket in prepared.buckets:
        say(f"  every object in the bucket {plain(bucket)}, older versions included")
    return bool(typer.prompt("Type the stack's name to go on", err=True) == name)
