"""Shard records in DynamoDB: claims raise the attempt, and every commit is fenced by it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.errors import Superseded
from backhaul.model.job import Cause, JobRef
from backhaul.model.progress import ShardRecord
from backhaul.model.shard import Shard
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord, former, unreadable, upgraded
from backhaul.store.codec import Item, arguments, from_item, naming, removing, setting, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_FIELDS = tuple(item.name for item in fields(ShardRecord))
_READABLE = f"(attribute_not_exists(#{FIELD}) OR #{FIELD} <= :{FIELD})"
"""The condition of a write to an existing record: no newer version of Backhaul has written it."""
_COMMITTED = tuple(name for name in _FIELDS if name not in {"index", "attempt", "chunks", "previous_run"})


class ShardStore:
    """The shard records of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def claim(self, ref: JobRef, shard: Shard, run: int, *, expires_at: int | None = None) -> ShardRecord:
        """Take the shard over with a new attempt, which fences off every earlier one.

        Returns the record with what earlier attempts committed and their last sign of life. `expires_at` is the
        job's own. Raises `Superseded` when a later run has claimed the shard, and `UnreadableRecord`, having changed
        nothing, when a newer version of Backhaul has written it.
        """
        owner = secrets.token_hex(8)
        claim = {"owner": owner, "claimed_run": run, "claimed_at": self._clock.now()}
        described = _description(shard, expires_at) | claim
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(ref, shard.index),
                UpdateExpression=setting(described)
                + ", previous_run = if_not_exists(#claimed_run, :zero) ADD attempt :one",
                # boto3 sends a claim again if its answer was lost. The owner shows that the stored claim is its own.
                ConditionExpression="(attribute_not_exists(#claimed_run) OR #claimed_run <= :claimed_run)"
                f" AND (attribute_not_exists(#owner) OR #owner <> :owner) AND {_READABLE}",
                ExpressionAttributeNames=naming(described),
                ExpressionAttributeValues=arguments(described) | to_item({":one": 1, ":zero": 0}),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            current: Item = refused.response.get("Item", {})  # type: ignore[assignment]  # the stubs do not know it
            record = _record_of(current)  # raises if a newer version wrote it
            if from_item(current).get("owner") != owner:
                raise Superseded(f"Shard {shard.index} of job {ref.job_id} belongs to a later run by now.") from None
            return record
        return _record_of(answer["Attributes"])

    def commit(self, ref: JobRef, record: ShardRecord) -> None:
        """Store the shard's committed progress; raises `Superseded` when a newer attempt holds the shard."""
        record = replace(record, beat_at=self._clock.now(), underway=0)
        self._write(ref, record, {name: getattr(record, name) for name in _COMMITTED})

    def beat(self, ref: JobRef, record: ShardRecord, *, begun: int | None, underway: int) -> None:
        """Write a sign of life into the shard's record; raises `Superseded` when a newer attempt holds the shard."""
        self._write(ref, record, {"beat_at": self._clock.now(), "begun": begun, "underway": underway})

    def _write(self, ref: JobRef, record: ShardRecord, values: dict[str, Any]) -> None:
        kept = {name: value for name, value in values.items() if value is not None}
        values = dict.fromkeys(former(StoredRecord.SHARD, values)) | values
        gone = values.keys() - kept.keys()
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(ref, record.index),
                UpdateExpression=setting(kept) + removing(gone),
                ConditionExpression="attempt = :attempt",
                ExpressionAttributeNames=naming(values),
                ExpressionAttributeValues=arguments(kept) | to_item({":attempt": record.attempt}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            raise Superseded(  # only a claim changes the attempt
                f"Shard {record.index} of job {ref.job_id} was claimed anew after attempt {record.attempt}."
            ) from None

    def note_crash(self, ref: JobRef, shard: Shard, run: int, cause: Cause, *, expires_at: int | None = None) -> None:
        """Store why the shard's last worker died.

        Nothing is written if the shard is finished, or if a later run or a newer version of Backhaul wrote the record.
        """
        values = _description(shard, expires_at) | {"crash": cause, "crash_run": run}
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(ref, shard.index),
                UpdateExpression=setting(values),
                ConditionExpression="NOT (finished = :true AND #run = :of_run) AND NOT claimed_run > :of_run"
                f" AND {_READABLE}",
                ExpressionAttributeNames=naming([*values, "run"]),
                ExpressionAttributeValues=arguments(values) | to_item({":true": True, ":of_run": run}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return

    def get(self, ref: JobRef, shard: int) -> ShardRecord:
        """Return a shard's record as last written; an empty one if no worker has claimed the shard."""
        found = self._client.get_item(TableName=self._table, Key=_key(ref, shard), ConsistentRead=True)
        return _record_of(found.get("Item", to_item({"index": shard})))

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
    described[FIELD] = VERSIONS[StoredRecord.SHARD]
    return {name: value for name, value in described.items() if value is not None}


def _record_of(item: Item) -> ShardRecord:
    found = from_item(item)
    whose = f"shard {found.get('index')} of {found.get('pk')}"
    values = upgraded(StoredRecord.SHARD, found, whose)
    # A claim is a sign of life too: the last sign of an earlier worker says nothing about this one.
    values["beat_at"] = max(filter(None, [values.get("beat_at"), values.get("claimed_at")]), default=None)
    try:
        return msgspec.convert({name: values[name] for name in _FIELDS if name in values}, ShardRecord)
    except msgspec.MsgspecError as problem:
        raise unreadable(whose, f"{type(problem).__name__}: {problem}") from problem


def _key(ref: JobRef, shard: int) -> Item:
    return to_item({"pk": keys.partition(ref), "sk": keys.shard_sort_key(shard)})
