"""Tell the event bus of every change of a job's state, from the jobs table's stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backhaul.events import JobEvent, event_of
from backhaul.store import EventBus
from backhaul.store.bus import ENTRIES_MOST
from backhaul.store.job_item import job_of


@dataclass(frozen=True)
class Change:
    """One record of the stream: a job before and after a write."""

    sequence_number: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Change:
        """Return the change that a record of the stream says under `dynamodb`."""
        return cls(image["SequenceNumber"], image.get("OldImage", {}), image.get("NewImage", {}))


def announce(changes: Iterable[Change], *, bus: EventBus, bucket: str) -> str | None:
    """Publish an event for each change of state, in order.

    Returns the sequence number from which the stream must be read again, or None if all went out.
    An event that went out twice has the same event ID both times.
    """
    pending = iter(
        (change, event)
        for change in changes
        if _changes_state(change) and (event := event_of(job_of(dict(change.after)), bucket)) is not None
    )
    while batch := tuple(islice(pending, ENTRIES_MOST)):
        refused = bus.publish([event for _, event in batch])
        if refused:
            return _first(batch, refused)
    return None


def _changes_state(change: Change) -> bool:
    # An image without it is no job, or a job that was removed, which is no change of its state.
    return "moves" in change.after and change.before.get("moves") != change.after["moves"]


def _first(batch: tuple[tuple[Change, JobEvent], ...], refused: list[JobEvent]) -> str:
    return next(change.sequence_number for change, event in batch if event in refused)
