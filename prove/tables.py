"""The tables of moto, looked at from outside: items as plain values, and as they were a while ago."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from boto3.dynamodb.types import TypeSerializer
from moto.backends import get_backend
from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from prove.history import Change
from prove.requests import Key, plain_item

ACCOUNT, REGION = "123456789012", "us-east-1"


class Tables:
    """Every table of one simulation."""

    def __init__(self, *, remembers: bool = False) -> None:
        self._remembers = remembers
        self._past: list[tuple[float, dict[str, Any]]] = []

    @property
    def _tables(self) -> dict[str, Any]:
        backend: DynamoDBBackend = get_backend("dynamodb")[ACCOUNT][REGION]
        tables: dict[str, Any] = backend.tables
        return tables

    def read(self, key: Key) -> dict[str, Any] | None:
        """Return an item as it stands."""
        table, pk, sk = key
        item = self._tables[table].get_item(DynamoType({"S": pk}), DynamoType({"S": sk}))
        return None if item is None else plain_item(item.to_json()["Attributes"])

    def delete(self, key: Key) -> None:
        """Remove an item, as its time to live does."""
        table, pk, sk = key
        self._tables[table].delete_item(DynamoType({"S": pk}), DynamoType({"S": sk}))

    def all(self) -> dict[Key, dict[str, Any]]:
        """Return every item."""
        found = {}
        for name, table in self._tables.items():
            for item in table.all_items():
                values = plain_item(item.to_json()["Attributes"])
                found[name, values["pk"], values["sk"]] = values
        return found

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Yield every job's state, as plain values of what the settled world is known by."""
        for item in self._tables["jobs"].all_items():
            attributes = item.attrs
            if attributes["sk"].value == "JOB":
                yield {"state": attributes["state"].value}

    def slots(self) -> list[str]:
        """Return who holds a slot."""
        held = (self.read(("flow", "SLOTS", "SLOTS")) or {}).get("members", [])
        return list(held)

    def images(self, change: Change) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return both images of a change, as a stream record holds them."""
        return _typed(change.before), _typed(change.after)

    def remember(self, time: float) -> None:
        """Keep a copy of what the tables hold before a write, if this simulation has stale reads."""
        if self._remembers:
            held = {name: copy.deepcopy(table.items) for name, table in self._tables.items()}
            self._past.append((time, held))

    @contextmanager
    def as_of(self, time: float) -> Iterator[None]:
        """Let reads see the tables as they were at that time."""
        later = [held for moment, held in self._past if moment > time]
        if not later:
            yield
            return
        present = {name: table.items for name, table in self._tables.items()}
        for name, table in self._tables.items():
            table.items = copy.deepcopy(later[0][name])
        try:
            yield
        finally:
            for name, table in self._tables.items():
                table.items = present[name]


_serialize = TypeSerializer().serialize


def _typed(values: dict[str, Any] | None) -> dict[str, Any]:
    return {name: _serialize(set(value) if name == "members" else value) for name, value in (values or {}).items()}
