"""The topic that alarms go to."""

from __future__ import annotations

from typing import Any

_UNCONFIRMED = "PendingConfirmation"


class AlarmTopic:
    """Tells who hears the alarms of one deployment."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn

    def has_subscriber(self) -> bool:
        """Return whether anybody hears: a subscription that nobody has confirmed does not count."""
        pages = self._client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._arn)
        found = [each["SubscriptionArn"] for page in pages for each in page.get("Subscriptions", [])]
        return any(arn not in ("", _UNCONFIRMED) for arn in found)
