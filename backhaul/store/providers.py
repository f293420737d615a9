"""The providers of one deployment, in the flow table: changed by operators, read by workers."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from backhaul.model.clock import Clock
from backhaul.providers.errors import InvalidProvider, ProviderConflict, UnknownProvider
from backhaul.providers.provider import Provider
from backhaul.store.codec import from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEPT_SECONDS = 30.0
SORT_KEY = "PROVIDER"
PREFIX = "PROVIDER#"
Problems = list[InvalidProvider]
"""Errors about stored providers that cannot be read. It has a name, because `list` is a method in the class below."""


@dataclass(frozen=True)
class StoredProvider:
    """A provider as an operator sees it; a change must name the `version` that it replaces."""

    provider: Provider
    version: str
    changed_at: datetime
    changed_by: str


class ProviderStore:
    """The providers by name; any number of threads may use the store."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._kept: dict[str, tuple[Provider, float]] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Provider:
        """Return the provider from a cache of 30 seconds; raises `UnknownProvider`."""
        with self._lock:
            kept = self._kept.get(name)
            if kept and self._clock.monotonic() - kept[1] < KEPT_SECONDS:
                return kept[0]
            provider = self.find(name).provider
            self._kept[name] = (provider, self._clock.monotonic())
            return provider

    def find(self, name: str) -> StoredProvider:
        """Return the provider as it is now, with its version; raises `UnknownProvider`."""
        return _stored(self._read(name))

    def raw(self, name: str) -> tuple[str, str]:
        """Return a provider's stored JSON and its version, without parsing it; raises `UnknownProvider`.

        It also works for a provider that another version of Backhaul has stored.
        """
        values = from_item(self._read(name))
        return values["provider"], values["version"]

    def list(self, unreadable: Problems | None = None) -> list[StoredProvider]:
        """Return all providers, sorted by name. It reads the whole table, so only operators use it.

        The error about a provider that another version of Backhaul has stored goes into `unreadable`; without
        `unreadable`, it is raised.
        """
        return sorted(self._all(unreadable), key=lambda each: each.provider.name)

    def put(self, provider: Provider, *, version: str | None, by: str) -> str:
        """Store a provider that is new (`version` is None) or still has this version; returns its next version.

        Raises `ProviderConflict` if another operator has added, changed or removed it.
        """
        following = secrets.token_hex(8)
        values = {
            "provider": msgspec.json.encode(provider).decode(),
            "version": following,
            "changed_at": self._clock.now(),
            "changed_by": by,
        }
        try:
            self._client.put_item(
                TableName=self._table,
                Item=_key(provider.name) | to_item(values),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **_condition(version),
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            # boto3 repeats a write whose answer was lost. The condition then fails, because the first write is there.
            if from_item(refused.response.get("Item", {})).get("version") != following:  # type: ignore[arg-type]
                raise _conflict(provider.name, version) from None
        self._forget(provider.name)
        return following

    def delete(self, name: str, *, version: str) -> None:
        """Remove a provider that still has this version; raises `ProviderConflict` if it has another.

        A provider that is already gone is no conflict: boto3 repeats a call whose answer was lost.
        """
        try:
            self._client.delete_item(
                TableName=self._table,
                Key=_key(name),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **_condition(version),
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            if "Item" in refused.response:
                raise _conflict(name, version) from None
        self._forget(name)

    def _read(self, name: str) -> dict[str, Any]:
        found = self._client.get_item(TableName=self._table, Key=_key(name), ConsistentRead=True)
        if "Item" not in found:
            raise UnknownProvider(name)
        return found["Item"]

    def _all(self, unreadable: Problems | None) -> Iterator[StoredProvider]:
        pages = self._client.get_paginator("scan").paginate(
            TableName=self._table,
            FilterExpression="sk = :sk AND begins_with(pk, :prefix)",
            ExpressionAttributeValues=to_item({":sk": SORT_KEY, ":prefix": PREFIX}),
            ConsistentRead=True,
        )
        for item in (item for page in pages for item in page["Items"]):
            try:
                yield _stored(item)
            except InvalidProvider as error:
                if unreadable is None:
                    raise
                unreadable.append(error)

    def forget(self) -> None:
        """Read each provider anew: whoever was woken may have been so because one has changed."""
        with self._lock:
            self._kept.clear()

    def _forget(self, name: str) -> None:
        with self._lock:
            self._kept.pop(name, None)


def _stored(item: dict[str, Any]) -> StoredProvider:
    values = from_item(item)
    try:
        provider = msgspec.json.decode(values["provider"], type=Provider)
    except (msgspec.DecodeError, InvalidProvider) as error:
        name = values["pk"].removeprefix(PREFIX)
        raise InvalidProvider(
            f"The provider {name!r} was stored by another version of Backhaul. Set it as a whole, with --file. {error}"
        ) from None
    return StoredProvider(
        provider, values["version"], datetime.fromisoformat(values["changed_at"]), values["changed_by"]
    )


def _partition(name: str) -> str:
    return f"{PREFIX}{name}"


def _key(name: str) -> dict[str, Any]:
    return to_item({"pk": _partition(name), "sk": SORT_KEY})


def _condition(version: str | None) -> dict[str, Any]:
    if version is None:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": to_item({":version": version}),
    }


def _conflict(name: str, version: str | None) -> ProviderConflict:
    happened = "exists already" if version is None else "was changed or removed since you read it"
    return ProviderConflict(f"The provider {name!r} {happened}. Look at it again, and then repeat your change.")
