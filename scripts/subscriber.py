"""A subscriber to the event bus: a queue, and the rule that fills it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from backhaul.local.connection import Connection


@contextmanager
def subscription(connection: Connection, *, seconds: float = 30) -> Iterator[Iterator[dict[str, Any]]]:
    """Subscribe to every event of the deployment; yields the events that arrive within so many seconds."""
    admin = connection.as_root()
    events = admin.session.client("events", **admin.options)
    sqs = admin.session.client("sqs", **admin.options)
    bus, name = connection.outputs["EventBusName"], f"subscriber-{uuid.uuid4().hex[:12]}"
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    rule = events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["backhaul"]}')["RuleArn"]
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": _policy(arn, rule)})
    events.put_targets(Rule=name, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])
    try:
        yield _receive(sqs, queue, seconds)
    finally:
        events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
        events.delete_rule(Name=name, EventBusName=bus)
        sqs.delete_queue(QueueUrl=queue)


def _policy(queue_arn: str, rule_arn: str) -> str:
    """Return a policy that lets one rule send to one queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }
    return msgspec.json.encode({"Version": "2012-10-17", "Statement": [statement]}).decode()


def _receive(sqs: Any, queue: str, seconds: float) -> Iterator[dict[str, Any]]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        answer = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            yield msgspec.json.decode(message["Body"])
