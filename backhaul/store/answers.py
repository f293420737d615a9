"""Providers' answers that a tenant's jobs share: small ones in DynamoDB, large ones in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.store.claim_check import ClaimCheck
from backhaul.store.codec import from_item, to_item
from backhaul.store.objects import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_SORT_KEY = "ANSWER"


class AnswerStore:
    """The answers of one deployment, by the tenant that paid for them and a digest of the request."""

    def __init__(self, client: DynamoDBClient, table: str, objects: ObjectStore, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._checks = ClaimCheck(objects)
        self._clock = clock

    def find(self, tenant: str, digest: str) -> bytes | None:
        """Return the answer as JSON, or None if there is none or it has expired."""
        found = self._client.get_item(TableName=self._table, Key=_key(tenant, digest))
        if "Item" not in found:
            return None
        item = found["Item"]
        expires_at = from_item(item).get("expires_at")
        if expires_at is not None and expires_at <= self._clock.now().timestamp():  # DynamoDB deletes it days late
            return None
        return self._checks.answer_in(item)

    def keep(self, tenant: str, digest: str, answer: bytes, *, expires_at: int | None) -> None:
        """Store an answer, which is JSON, until `expires_at` (a Unix time); it replaces an earlier answer."""
        values = self._checks.values_of(answer, lambda: keys.answer_key(tenant, digest)) | {"expires_at": expires_at}
        self._client.put_item(TableName=self._table, Item=_key(tenant, digest) | to_item(values))


def _key(tenant: str, digest: str) -> dict[str, Any]:
    return to_item({"pk": keys.answer_partition(tenant, digest), "sk": _SORT_KEY})
