"""Publish an event for every change of a job's state or a provider's breaker, from the tables' streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from backhaul.model.events import Event, event_of, event_of_breaker
from backhaul.store import EventBus
from backhaul.store.breakers import SORT_KEY, breaker_of
from backhaul.store.bus import MAX_ENTRIES
from backhaul.store.job_item import job_of


@dataclass(frozen=True)
class Change:
    """One record of a stream: an item, such as a job or a breaker, before and after a write."""

    sequence_number: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @classmethod
    def of(cls, image: Mapping[str, Any]) -> Change:
        """Return the change from the part `dynamodb` of a stream's record."""
        return cls(image["SequenceNumber"], image.get("OldImage", {}), image.get("NewImage", {}))


def announce(changes: Iterable[Change], *, bus: EventBus, bucket: str) -> str | None:
    """Publish an event for each change of state, in the order of the stream.

    Returns the sequence number from which the stream must be read again, or None if all events were published.
    An event that is published twice has the same event ID both times.
    """
    pending = iter((change, event) for change in changes if (event := _event_of(change, bucket)) is not None)
    while batch := tuple(islice(pending, MAX_ENTRIES)):
        refused = bus.publish([event for _, event in batch])
        if refused:
            return _first(batch, refused)
    return None


def _event_of(change: Change, bucket: str) -> Event | None:
    after = dict(change.after)
    if after.get("sk") == {"S": SORT_KEY}:
        before = {"pk": after["pk"], **change.before}  # a breaker's first write has no image before it
        return event_of_breaker(breaker_of(before), breaker_of(after))
    # An image without `moves` is another item, or a job that was deleted, which is no change of state.
    if "moves" in after and change.before.get("moves") != after["moves"]:
        return event_of(job_of(after), bucket)
    return None


def _first(batch: tuple[tuple[Change, Event], ...], refused: list[Event]) -> str:
    return next(change.sequence_number for change, event in batch if event in refused)
