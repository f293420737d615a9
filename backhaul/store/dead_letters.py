"""The queue of failed chunks, for the code that sends to it; operators read it through `queues.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backhaul.model.dead_letter import ChunkDeadLetter

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class DeadLetterQueue:
    """The queue of failed chunks of one deployment."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, dead_letter: ChunkDeadLetter) -> str:
        """Send a dead letter and return its message ID; a repeat has another message ID and the same dead letter ID."""
        return self._client.send_message(QueueUrl=self._queue_url, MessageBody=dead_letter.to_json())["MessageId"]
