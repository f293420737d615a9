"""Wake the shards that wait for what has changed: their job is to stop, a provider's breaker closed, or its settings.

The tables' streams are the outbox: whoever makes such a change need not know of shards, and cannot die in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backhaul.admission.waker import Waker
from backhaul.model.breaker import Phase
from backhaul.model.keys import JOB_SORT_KEY, job_of_partition
from backhaul.model.parking import ParkedShard
from backhaul.store import Callbacks, WaitStore
from backhaul.store import breakers as breaker_items
from backhaul.store import providers as provider_items


@dataclass(frozen=True)
class Change:
    """One record of a stream: an item's keys, and the item before and after a write."""

    sequence_number: str
    keys: Mapping[str, Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Change:
        """Return the change that a record of the stream says under `dynamodb`."""
        return cls(image["SequenceNumber"], image["Keys"], image.get("OldImage", {}), image.get("NewImage", {}))


@dataclass
class Woken:
    """How many shards went on, and from which record the stream must be read again; None if all is done."""

    shards: int = 0
    unfinished: str | None = None


def wake(changes: Iterable[Change], *, waits: WaitStore, callbacks: Callbacks) -> Woken:
    """Wake whoever waits for one of these changes."""
    waker, woken = Waker(waits, callbacks), Woken()
    for change in changes:
        shards, are_all = waker.wake_all(_concerned(change, waits))
        woken.shards += shards
        if not are_all:
            woken.unfinished = change.sequence_number
            break
    return woken


def _concerned(change: Change, waits: WaitStore) -> Iterator[ParkedShard]:
    before, after = change.before, change.after
    partition, kind = change.keys["pk"]["S"], change.keys["sk"]["S"]
    if kind == JOB_SORT_KEY and "stop" in after and before.get("stop") != after["stop"]:
        return waits.of_job(job_of_partition(partition))
    is_closed = after.get("state") == {"S": Phase.CLOSED}
    if kind == breaker_items.SORT_KEY and is_closed and before.get("epoch") != after.get("epoch"):
        return waits.of_provider(partition.removeprefix(breaker_items.PREFIX))
    if kind == provider_items.SORT_KEY and before.get("version") != after.get("version"):
        return waits.of_provider(partition.removeprefix(provider_items.PREFIX))
    return iter(())
