"""The jobs table's stream, from which operators read a lost batch again; DynamoDB keeps it for 24 hours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backhaul.model.errors import StoreUnavailable

_MAX_EMPTY = 50
"""Answers without a record, in a row, before the stream counts as silent. A few are normal."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive records of one shard of a stream, by their first and last sequence numbers."""

    stream: str
    shard: str
    first: str
    last: str


class ChangeStream:
    """The streams of one deployment's tables."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, stretch: Stretch) -> tuple[dict[str, Any], ...] | None:
        """Return the records' images in order, or None if the stream no longer holds all of them.

        Raises `StoreUnavailable` if the stream returns no more records before the last one.
        """
        gone = (self._client.exceptions.TrimmedDataAccessException, self._client.exceptions.ResourceNotFoundException)
        images: list[dict[str, Any]] = []
        try:
            for image in self._from(stretch):
                if int(image["SequenceNumber"]) > int(stretch.last):
                    break
                images.append(image)
                if int(image["SequenceNumber"]) == int(stretch.last):
                    break
        except gone:
            return None
        whole = bool(images) and int(images[0]["SequenceNumber"]) == int(stretch.first)
        return tuple(images) if whole else None

    def _from(self, stretch: Stretch) -> Iterator[dict[str, Any]]:
        iterator: str | None = self._client.get_shard_iterator(
            StreamArn=stretch.stream,
            ShardId=stretch.shard,
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            SequenceNumber=stretch.first,
        )["ShardIterator"]
        empty = 0
        while iterator:
            answer = self._client.get_records(ShardIterator=iterator)
            yield from (record["dynamodb"] for record in answer["Records"])
            empty = 0 if answer["Records"] else empty + 1
            if empty == _MAX_EMPTY:
                raise StoreUnavailable(f"The stream gave nothing up to its record {stretch.last}. Try again.")
            iterator = answer.get("NextShardIterator")
