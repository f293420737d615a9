"""Queues for operators' commands, which receive messages, hide them while they work, and delete them at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

MAX_MESSAGES = 10
"""The most messages that SQS takes or returns in one request."""
WAIT_SECONDS = 1
"""How long a receive waits for a message. A request that does not wait asks only some of SQS's servers."""

_DENIED = ("AccessDenied", "AccessDeniedException")


@dataclass(frozen=True)
class Message:
    """One message as it was last received. SQS accepts only the newest receipt of a message."""

    message_id: str
    receipt: str = field(repr=False)
    body: str = field(repr=False)
    sent_at: datetime
    receives: int
    """How often it was received, by this command too."""


class MessageQueue:
    """One SQS queue."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def receive(self, hide_seconds: int) -> tuple[Message, ...]:
        """Return up to ten messages and hide them for so many seconds; none does not mean that the queue is empty."""
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=MAX_MESSAGES,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=hide_seconds,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        return tuple(map(_message, answer.get("Messages", [])))

    def send(self, body: str) -> None:
        """Send a message to the queue."""
        self._client.send_message(QueueUrl=self._url, MessageBody=body)

    def hide(self, messages: Iterable[Message], seconds: int) -> frozenset[str]:
        """Hide messages for so many seconds from now; returns the IDs of those whose receipts are no longer valid."""
        sqs = self._client
        calls = sqs.change_message_visibility_batch, sqs.change_message_visibility
        return self._each(*calls, messages, VisibilityTimeout=seconds)

    def release(self, messages: Iterable[Message]) -> None:
        """Make messages visible again at once; if AWS fails, they become visible when their time is up."""
        try:
            self.hide(messages, 0)
        except (BotoCoreError, ClientError):
            return

    def delete(self, messages: Iterable[Message]) -> frozenset[str]:
        """Delete messages; returns the IDs of those that are still there."""
        return self._each(self._client.delete_message_batch, self._client.delete_message, messages)

    def _each(
        self, batch: Callable[..., Any], single: Callable[..., Any], messages: Iterable[Message], **values: int
    ) -> frozenset[str]:
        refused: set[str] = set()
        for page in _pages(tuple(messages)):
            entries = [{"Id": str(at), "ReceiptHandle": each.receipt, **values} for at, each in enumerate(page)]
            try:
                answer = batch(QueueUrl=self._url, Entries=entries)
            except ClientError as error:
                if error.response["Error"]["Code"] not in _DENIED:
                    raise
                # On AWS the permission for the single call covers the batch; some emulators refuse the batch.
                refused |= {each.message_id for each in page if not self._one(single, each, values)}
            else:
                refused |= {page[int(failed["Id"])].message_id for failed in answer.get("Failed", [])}
        return frozenset(refused)

    def _one(self, call: Callable[..., Any], message: Message, values: dict[str, int]) -> bool:
        try:
            call(QueueUrl=self._url, ReceiptHandle=message.receipt, **values)
        except ClientError as error:
            if error.response["Error"]["Code"] in _DENIED:
                raise
            return False
        return True


def _pages(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    return (messages[first : first + MAX_MESSAGES] for first in range(0, len(messages), MAX_MESSAGES))


def _message(received: Any) -> Message:
    attributes = received["Attributes"]
    return Message(
        message_id=received["MessageId"],
        receipt=received["ReceiptHandle"],
        body=received["Body"],
        sent_at=datetime.fromtimestamp(int(attributes["SentTimestamp"]) / 1000, UTC),
        receives=int(attributes["ApproximateReceiveCount"]),
    )
