"""Answers of memoised steps: small ones in DynamoDB, large ones in S3."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backhaul.model import keys
from backhaul.model.job import JobRef
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord
from backhaul.plugin.journal import Step
from backhaul.store.claim_check import ClaimCheck
from backhaul.store.codec import Item, from_item, to_item, upgraded_item
from backhaul.store.objects import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True)
class Price:
    """What an answer cost and what had been held for it, in nanodollars, and the attempt at the shard that paid."""

    attempt: int
    cost: int
    estimate: int


class StepStore:
    """The answers of one deployment's steps. The first stored answer of a step counts, whichever worker stored it."""

    def __init__(self, client: DynamoDBClient, table: str, objects: ObjectStore) -> None:
        self._client = client
        self._table = table
        self._checks = ClaimCheck(objects)

    def recall(self, ref: JobRef, chunk: int, *, start: int, position: int) -> dict[Step, bytes]:
        """Return the stored answers, as JSON, for the rest of a chunk: for its records from `position` on.

        The answers for the chunk as a whole, whose scope is its `start`, are included.
        """
        first, last = keys.step_prefix(chunk, position), keys.step_prefix(chunk, keys.MAX_SCOPE)
        found = self._answers(ref, first, last)
        return found if position == start else found | self._answers(ref, *[keys.step_prefix(chunk, start)] * 2)

    def prices(self, ref: JobRef, first: int, last: int, attempt: int) -> list[Price]:
        """Return the price of each answer that an attempt has paid for in the chunks `first` to `last`, inclusive."""
        items = self._items(ref, keys.step_prefix(first, 0), keys.step_prefix(last, keys.MAX_SCOPE))
        paid = (from_item(item) for item in items if "estimate" in item)
        found = (Price(item["attempt"], item["cost"], item["estimate"]) for item in paid)
        return [price for price in found if price.attempt == attempt]

    def _answers(self, ref: JobRef, first: str, last: str) -> dict[Step, bytes]:
        found = {}
        for item in self._items(ref, first, last):
            scope, name = from_item({"sk": item["sk"]})["sk"].split("#", 3)[2:]
            found[int(scope), name] = self._checks.answer_in(item)
        return found

    def _items(self, ref: JobRef, first: str, last: str) -> Iterator[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            # A step's name follows its scope in the key; the highest character includes every name of the last scope.
            ExpressionAttributeValues=to_item(
                {":pk": keys.partition(ref), ":first": first, ":last": last + keys.HIGHEST}
            ),
            ConsistentRead=True,
        )
        whose = f"a step of job {ref.job_id}"
        return (upgraded_item(item, StoredRecord.STEP, whose) for page in pages for item in page["Items"])

    def keep(
        self,
        ref: JobRef,
        chunk: int,
        step: Step,
        answer: bytes,
        *,
        expires_at: int | None = None,
        price: Price | None = None,
    ) -> bytes:
        """Store an answer, which is JSON, unless the step has one; returns the stored answer."""
        scope, name = step
        values: dict[str, object] = {
            "pk": keys.partition(ref),
            "sk": keys.step_sort_key(chunk, scope, name),
            "expires_at": expires_at,
            FIELD: VERSIONS[StoredRecord.STEP],
        }
        if price is not None:
            values |= {"attempt": price.attempt, "cost": price.cost, "estimate": price.estimate}
        values |= self._checks.values_of(answer, lambda: _object_key(ref, chunk, step, answer))
        try:
            self._client.put_item(
                TableName=self._table,
                Item=to_item(values),
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            stored: Item = refused.response["Item"]  # type: ignore[typeddict-item]  # the stubs do not know it
            return self._checks.answer_in(upgraded_item(stored, StoredRecord.STEP, f"a step of job {ref.job_id}"))
        return answer


def _object_key(ref: JobRef, chunk: int, step: Step, answer: bytes) -> str:
    digest = hashlib.sha256(step[1].encode() + b"\0" + answer).hexdigest()[:32]
    return keys.step_key(ref, chunk, step[0], digest)
