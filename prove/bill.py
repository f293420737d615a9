"""What AWS charges for what happened in a world: counted there, and priced as `backhaul/estimate/prices.py` does."""

from __future__ import annotations

import json
from collections.abc import Collection
from math import ceil
from typing import TYPE_CHECKING

from backhaul.estimate.prices import AwsUse
from prove.history import Call

if TYPE_CHECKING:
    from prove.world import World

MEGABYTES = 256
LARGE = {"submit": 1769, "plan": 1769, "process": 1769, "merge": 1769, "estimate": 1769}
"""Memory of the functions that have more than `MEGABYTES`; a test compares both with the template."""
_WRITES = frozenset({"UpdateItem", "PutItem", "DeleteItem"})
_READS = frozenset({"GetItem", "Query"})


def bill(world: World, *, without: Collection[str] = ()) -> AwsUse:
    """Return what was used up to now, but for what these functions have used.

    The sweep may be left out: it comes every minute, whether or not anybody waits.
    """
    calls = [call for call in world.history.calls if call.function not in without]
    used = {name: each for name, each in world.functions.used.items() if name not in without}
    return AwsUse(
        transitions=world.runs.transitions,
        invocations=sum(each.invocations for each in used.values()),
        gb_seconds=sum(each.seconds * LARGE.get(name, MEGABYTES) / 1024 for name, each in used.items()),
        write_units=sum(_written(call) for call in calls if call.operation in _WRITES),
        read_units=sum(_read(call) for call in calls if call.operation in _READS),
        s3_writes=sum(call.operation in ("PutObject", "CopyObject", "UploadPart") for call in calls),
        s3_reads=sum(call.operation in ("GetObject", "HeadObject") for call in calls),
    )


def _written(call: Call) -> int:
    sizes = [len(json.dumps(change.after, default=str)) for change in call.changes if change.after]
    return max(1, *(ceil(size / 1024) for size in sizes)) if sizes else 1


def _read(call: Call) -> float:
    return 1.0 if call.request.get("ConsistentRead") else 0.5
