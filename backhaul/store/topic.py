"""The SNS topic to which alarms are sent."""

from __future__ import annotations

from typing import Any

_UNCONFIRMED = "PendingConfirmation"


class AlarmTopic:
    """The topic of one deployment's alarms."""

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn

    def has_subscriber(self) -> bool:
        """Return whether the topic has a confirmed subscription."""
        pages = self._client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._arn)
        found = [each["SubscriptionArn"] for page in pages for each in page.get("Subscriptions", [])]
        return any(arn not in ("", _UNCONFIRMED) for arn in found)
