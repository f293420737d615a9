"""Shard records in DynamoDB: claims raise the attempt, and every commit is fenced by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from backhaul import keys
from backhaul.errors import Superseded
from backhaul.job import Cause, JobRef
from backhaul.shard import Shard, ShardRecord
from backhaul.store.codec import Item, arguments, convert, from_item, naming, setting, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FIELDS = tuple(item.name for item in fields(ShardRecord))
_COMMITTED = ("handed_over", "finished", "parts", "failed", "records", "bytes_done", "tallies")


class ShardStore:
    """The shard records of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def claim(self, ref: JobRef, shard: Shard, *, expires_at: int | None = None) -> ShardRecord:
        """Take the shard over with a new attempt, which fences off every earlier one.

        Returns the record with what earlier attempts committed. `expires_at` is the job's own.
        """
        described = _description(shard, expires_at)
        answer = self._client.update_item(
            TableName=self._table,
            Key=_key(ref, shard.index),
            UpdateExpression=setting(described) + " ADD attempt :one",
            ExpressionAttributeNames=naming(described),
            ExpressionAttributeValues=arguments(described) | to_item({":one": 1}),
            ReturnValues="ALL_NEW",
        )
        return _record_of(answer["Attributes"])

    def commit(self, ref: JobRef, record: ShardRecord) -> None:
        """Store what is committed of the shard; raises `Superseded` when a newer attempt holds it."""
        values = {name: getattr(record, name) for name in _COMMITTED}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(ref, record.index),
                UpdateExpression=setting(values),
                ConditionExpression="attempt = :attempt",
                ExpressionAttributeNames=naming(values),
                ExpressionAttributeValues=arguments(values) | to_item({":attempt": record.attempt}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            raise Superseded(
                f"Shard {record.index} of job {ref.job_id} was claimed anew after attempt {record.attempt}."
            ) from None

    def note_crash(self, ref: JobRef, shard: Shard, cause: Cause, *, expires_at: int | None = None) -> None:
        """Store why the shard's last worker died, unless the shard is finished."""
        values = _description(shard, expires_at) | {"crash": cause}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(ref, shard.index),
                UpdateExpression=setting(values),
                ConditionExpression="NOT finished = :true",
                ExpressionAttributeNames=naming(values),
                ExpressionAttributeValues=arguments(values) | to_item({":true": True}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return

    def all(self, ref: JobRef, *, consistent: bool = True) -> Iterator[ShardRecord]:
        """Yield the job's shard records, by number."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :shard)",
            ExpressionAttributeValues=to_item({":pk": keys.partition(ref), ":shard": keys.SHARD_PREFIX}),
            ConsistentRead=consistent,
        )
        return (_record_of(item) for page in pages for item in page["Items"])


def _description(shard: Shard, expires_at: int | None) -> dict[str, Any]:
    described = {"index": shard.index, "chunks": len(shard.chunks), "expires_at": expires_at}
    return {name: value for name, value in described.items() if value is not None}


def _record_of(item: Item) -> ShardRecord:
    values: dict[str, Any] = from_item(item)
    return convert({name: values[name] for name in _FIELDS if name in values}, ShardRecord)


def _key(ref: JobRef, shard: int) -> Item:
    return to_item({"pk": keys.partition(ref), "sk": keys.shard_sort_key(shard)})
