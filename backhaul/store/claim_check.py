"""Answers in an item: as they are, or as a claim check for S3 where they are large."""

from __future__ import annotations

from collections.abc import Callable

from backhaul.store.codec import Item, from_item
from backhaul.store.objects import ObjectStore

MAX_ANSWER = 8 * 1024
"""Bytes of an answer that go into an item. To write more of it costs more than an object of S3, whatever that one's
size; and all records of a job together may take 1,000 KB a second."""


class ClaimCheck:
    """Puts answers, which are JSON, into items, and reads them from there."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def values_of(self, answer: bytes, key: Callable[[], str]) -> dict[str, object]:
        """Return what an item holds of an answer; one that is too large is stored under the key first."""
        if len(answer) <= MAX_ANSWER:
            return {"answer": answer.decode()}
        there = key()
        self._objects.put(there, answer, content_type="application/json")
        return {"answer_key": there, "answer_size": len(answer)}

    def answer_in(self, item: Item) -> bytes:
        """Return the answer that an item holds, or claims."""
        if "answer" in item:
            return str(item["answer"]["S"]).encode()
        values = from_item({name: item[name] for name in ("answer_key", "answer_size")})
        return self._objects.read(values["answer_key"], 0, values["answer_size"])
