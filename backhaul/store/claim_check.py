"""Answers in DynamoDB items: a small one in full, a large one as a claim check for an object in S3."""

from __future__ import annotations

from collections.abc import Callable

from backhaul.store.codec import Item, from_item
from backhaul.store.objects import ObjectStore

MAX_ANSWER = 8 * 1024
"""Bytes of the largest answer that is stored in an item. Writing a larger one to DynamoDB costs more than a PUT to S3,
whose price does not depend on the size. Besides, all items of a job share 1,000 KB of writes per second."""


class ClaimCheck:
    """Writes answers, which are JSON, into items and reads them back."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def values_of(self, answer: bytes, key: Callable[[], str]) -> dict[str, object]:
        """Return an item's attributes for an answer; a large answer is first stored in S3 under `key()`."""
        if len(answer) <= MAX_ANSWER:
            return {"answer": answer.decode()}
        there = key()
        self._objects.put(there, answer, content_type="application/json")
        return {"answer_key": there, "answer_size": len(answer)}

    def answer_in(self, item: Item) -> bytes:
        """Return the answer that an item holds or refers to."""
        if "answer" in item:
            return str(item["answer"]["S"]).encode()
        values = from_item({name: item[name] for name in ("answer_key", "answer_size")})
        return self._objects.read(values["answer_key"], 0, values["answer_size"])
