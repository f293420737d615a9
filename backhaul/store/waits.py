"""Shards that wait, in the flow table: under their job, and under the provider that they wait for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from backhaul.model.job import JobRef
from backhaul.model.parking import ParkedShard
from backhaul.store.codec import Item, from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PREFIX = "WAITS#"
_KEPT = timedelta(days=1)
"""How long after its end a wait is kept that nobody has removed."""


class WaitStore:
    """The waiting shards of one deployment.

    Each wait has items of its own, and not each shard: a call of `park` that is late would take the place of the
    shard's next wait, which then nobody could end.
    """

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def put(self, parked: ParkedShard) -> None:
        """Store a wait, so that it can be found by its job and by its provider."""
        values = {name: value for name, value in asdict(parked).items() if name != "job"}
        values |= {"tenant": parked.job.tenant, "job_id": parked.job.job_id}
        item = to_item(values | {"expires_at": int((parked.until + _KEPT).timestamp())})
        for key in _keys(parked):
            self._client.put_item(TableName=self._table, Item=key | item)

    def drop(self, parked: ParkedShard) -> None:
        """Remove a wait; the next wait of its shard stays."""
        for key in _keys(parked):
            self._client.delete_item(TableName=self._table, Key=key)

    def of_job(self, job: JobRef, *, consistent: bool = True) -> Iterator[ParkedShard]:
        """Yield the waits of a job's shards, by number."""
        return self._query(_of_job(job), consistent)

    def of_provider(self, provider: str) -> Iterator[ParkedShard]:
        """Yield the waits of all shards that wait for a provider."""
        return self._query(_of_provider(provider), consistent=True)

    def _query(self, partition: str, consistent: bool) -> Iterator[ParkedShard]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": partition}),
            ConsistentRead=consistent,
        )
        return (_parked(from_item(item)) for page in pages for item in page["Items"])


def _parked(values: dict[str, Any]) -> ParkedShard:
    job = JobRef(values["tenant"], values["job_id"])
    until = datetime.fromisoformat(values["until"])
    return ParkedShard(job, values["run"], values["shard"], values["token"], until, values["provider"], values["epoch"])


def _of_job(job: JobRef) -> str:
    return f"{PREFIX}J#{job.tenant}#{job.job_id}"


def _of_provider(provider: str) -> str:
    return f"{PREFIX}P#{provider}"


def _keys(parked: ParkedShard) -> list[Item]:
    wait = f"{parked.shard:06d}#{hashlib.blake2b(parked.token.encode(), digest_size=8).hexdigest()}"
    keys = [{"pk": _of_job(parked.job), "sk": wait}]
    if parked.provider:
        keys.append({"pk": _of_provider(parked.provider), "sk": f"{parked.job.tenant}#{parked.job.job_id}#{wait}"})
    return [to_item(each) for each in keys]
