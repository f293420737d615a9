"""The queue of failed chunks, as those see it who write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backhaul.letter import FailedChunkLetter

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


class LetterBox:
    """The queue of failed chunks of one deployment."""

    def __init__(self, client: SQSClient, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    def send(self, letter: FailedChunkLetter) -> str:
        """Send a letter and return its message ID; a letter sent twice has the same letter ID both times."""
        return self._client.send_message(QueueUrl=self._queue_url, MessageBody=letter.to_json())["MessageId"]
