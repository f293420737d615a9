"""Frozen values to DynamoDB items and back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

Item = dict[str, Any]
"""An item in DynamoDB's own JSON: `{"name": {"S": "…"}}`."""

T = TypeVar("T")

_serialize = TypeSerializer().serialize
_deserialize = TypeDeserializer().deserialize


def attribute(value: Any) -> Any:
    """Return a value as a DynamoDB attribute."""
    return _serialize(msgspec.to_builtins(value))


def to_item(values: dict[str, Any]) -> Item:
    """Return an item of the values that are not None."""
    return {name: attribute(value) for name, value in values.items() if value is not None}


def from_item(item: Item) -> dict[str, Any]:
    """Return an item's plain values; every number we store is a whole one."""
    return {name: _plain(_deserialize(value)) for name, value in item.items()}


def convert(values: dict[str, Any], kind: type[T]) -> T:
    """Return plain values as the frozen value that they were."""
    return msgspec.convert(values, kind)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value
