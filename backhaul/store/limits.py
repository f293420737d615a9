"""Limits of providers, one item of the flow table each. An update is one conditional write, without a read before."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from backhaul.model.limit import SECOND, LimitState, Update, UpdateResult
from backhaul.store.codec import Item, convert, from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_NAMES = {f"#{item.name}": item.name for item in fields(LimitState)}


class LimitStore:
    """The limits of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, provider: str) -> LimitState | None:
        """Return a provider's limit as last written, or None. Only commands that show limits read them."""
        found = self._client.get_item(TableName=self._table, Key=_key(provider), ConsistentRead=True)
        return _state_of(found.get("Item", {}))

    def update(self, provider: str, update: Update) -> UpdateResult:
        """Apply the update if its conditions hold; the result has the item from before and DynamoDB's time."""
        values: dict[str, int] = {}
        sets = [
            f"#{name} = " + (f"#{each.base} + " if each.base else "") + _value(each.value, values)
            for name, each in update.sums.items()
        ]
        conditions = ["attribute_not_exists(pk)" if update.creates else "attribute_exists(pk)"]
        for each in update.conditions:
            than = _value(each.than, values) if isinstance(each.than, int) else f"#{each.than}"
            conditions.append(f"#{each.name} {'<' if each.is_below else '>='} {than}")
        wanted = set(re.findall(r"#\w+", " ".join([*sets, *conditions])))
        try:
            answer: Any = self._client.update_item(
                TableName=self._table,
                Key=_key(provider),
                UpdateExpression="SET " + ", ".join(sets),
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames={name: value for name, value in _NAMES.items() if name in wanted},
                ExpressionAttributeValues=to_item(values),
                ReturnValues="ALL_OLD",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            response: Any = refused.response
            return UpdateResult(False, _state_of(response.get("Item", {})), _time_of(response))
        return UpdateResult(True, _state_of(answer.get("Attributes", {})), _time_of(answer))


def _value(value: int, values: dict[str, int]) -> str:
    name = f":v{len(values)}"
    values[name] = value
    return name


def _key(provider: str) -> Item:
    return to_item({"pk": f"LIMIT#{provider}", "sk": "LIMIT"})


def _state_of(item: Item) -> LimitState | None:
    return convert(from_item(item), LimitState) if item else None


def _time_of(response: dict[str, Any]) -> int | None:
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return round(parsedate_to_datetime(headers["date"]).replace(tzinfo=UTC).timestamp() * SECOND)
    except (KeyError, TypeError, ValueError):
        return None
