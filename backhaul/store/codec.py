"""Conversion of frozen values to DynamoDB items and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

from backhaul.model.versions import FIELD, StoredRecord, unreadable, upgraded

Item = dict[str, Any]
"""An item in DynamoDB's own JSON: `{"name": {"S": "…"}}`."""

T = TypeVar("T")

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def to_item(values: dict[str, Any]) -> Item:
    """Return an item with the values that are not None."""
    return {name: _serialize(msgspec.to_builtins(value)) for name, value in values.items() if value is not None}


def setting(values: Iterable[str]) -> str:
    """Return the update expression that sets these attributes; `naming` and `arguments` give its names and values."""
    return "SET " + ", ".join(f"#{name} = :{name}" for name in values)


def removing(names: Iterable[str]) -> str:
    """Return the end of an update expression, which removes these attributes; empty if there are none."""
    listed = ", ".join(f"#{name}" for name in sorted(names))  # a set has another order in each process
    return f" REMOVE {listed}" if listed else ""


def naming(values: Iterable[str]) -> dict[str, str]:
    """Return the placeholders for names that `setting` uses, because any name could be a reserved word."""
    return {f"#{name}": name for name in values}


def arguments(values: Mapping[str, Any]) -> Item:
    """Return the placeholders for values that `setting` uses."""
    return to_item({f":{name}": value for name, value in values.items()})


def from_item(item: Item) -> dict[str, Any]:
    """Return an item's values as plain Python; every number becomes an int, because only whole ones are stored."""
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def convert(values: dict[str, Any], kind: type[T]) -> T:
    """Return the frozen value of this kind with these plain values as its fields."""
    return msgspec.convert(values, kind)


def read_item(item: Item, record: StoredRecord, kind: type[T], whose: str) -> T:
    """Return the frozen value that an item of this or an earlier version holds; raises `UnreadableRecord`."""
    values = upgraded(record, from_item(item), whose)
    try:
        return msgspec.convert(values, kind)
    except msgspec.MsgspecError as problem:
        raise unreadable(whose, f"{type(problem).__name__}: {problem}") from problem


def upgraded_item(item: Item, record: StoredRecord, whose: str) -> Item:
    """Return an item of this or an earlier version with the attribute names of this one; its values stay encoded."""
    version = int(item[FIELD]["N"]) if FIELD in item else 1
    return upgraded(record, item, whose, version)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value
