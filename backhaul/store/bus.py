"""The event bus, to which Backhaul publishes changes of jobs and breakers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from backhaul.model.events import SOURCE, Event

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_events.type_defs import PutEventsRequestEntryTypeDef

MAX_ENTRIES = 10
"""The most entries that EventBridge takes in one request."""


class EventBus:
    """The custom bus of one deployment."""

    def __init__(self, client: EventBridgeClient, name: str) -> None:
        self._client = client
        self._name = name

    def publish(self, events: Sequence[Event]) -> list[Event]:
        """Publish at most ten events and return those that the bus refused."""
        answer = self._client.put_events(Entries=[self._entry(event) for event in events])
        pairs = zip(events, answer["Entries"], strict=True)
        return [event for event, entry in pairs if "ErrorCode" in entry]

    def _entry(self, event: Event) -> PutEventsRequestEntryTypeDef:
        return {
            "EventBusName": self._name,
            "Source": SOURCE,
            "DetailType": event.detail_type,
            "Detail": msgspec.json.encode(event.detail).decode(),
            "Time": event.time,
        }
