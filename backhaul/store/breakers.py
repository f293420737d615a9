"""Circuit breakers: one item of the flow table per provider. Every change of state is one conditional write."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from backhaul.model.breaker import BreakerState, Count
from backhaul.store.codec import Item, arguments, convert, from_item, naming, removing, setting, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


SORT_KEY = "BREAKER"
PREFIX = "BREAKER#"
_FIELDS = tuple(item.name for item in fields(BreakerState) if item.name not in {"provider", "counts"})
_MAX_GONE = 60
_LETTERS = "cfr"
"""The first letters of a bucket's attributes: those of all calls, of failed ones and of refused ones."""


class BreakerStore:
    """The breakers of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str) -> None:
        self._client = client
        self._table = table

    def get(self, provider: str, *, consistent: bool = False) -> BreakerState:
        """Return the provider's breaker; a closed one if it has no item yet.

        A read that is not `consistent` may return the breaker as it was a moment ago.
        """
        found = self._client.get_item(TableName=self._table, Key=_key(provider), ConsistentRead=consistent)
        return _state_of(provider, found.get("Item", {}))

    def count(
        self, state: BreakerState, counts: Mapping[int, Count], token: str, *, stale: Collection[int] = ()
    ) -> BreakerState:
        """Add counts to the epoch of this state, remove stale buckets, and return the breaker as it now is.

        Counts for an epoch that is over are dropped. A repeated token adds nothing, unless another writer's token
        came in between.
        """
        names, values, sets = {"#token": "counted_by"}, {":epoch": state.epoch, ":token": token, ":z": 0}, []
        for place, (bucket, added) in enumerate(counts.items()):  # short names: an expression may have 4 KB
            for letter, number in zip(_LETTERS, (added.calls, added.failed, added.refused), strict=True):
                if not number:
                    continue
                names[f"#{letter}{place}"] = f"{letter}{bucket}"
                values[f":{letter}{place}"] = number
                sets.append(f"counts.#{letter}{place} = if_not_exists(counts.#{letter}{place}, :z) + :{letter}{place}")
        gone = [f"{letter}{bucket}" for bucket in stale if bucket not in counts for letter in _LETTERS][:_MAX_GONE]
        names |= {f"#g{place}": name for place, name in enumerate(gone)}
        removing_counts = " REMOVE " + ", ".join(f"counts.#g{place}" for place in range(len(gone))) if gone else ""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(state.provider),
                UpdateExpression=f"SET {', '.join(['#token = :token', *sets])}{removing_counts}",
                ConditionExpression="epoch = :epoch AND (attribute_not_exists(#token) OR #token <> :token)",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_item(values),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            current: Item = refused.response.get("Item", {})  # type: ignore[assignment]  # the stubs do not know it
            if not current and state.epoch == 0:
                self._begin(state.provider)
                return self.count(state, counts, token, stale=stale)
            return _state_of(state.provider, current)
        return _state_of(state.provider, answer["Attributes"])

    def move(self, before: BreakerState, after: BreakerState, token: str) -> BreakerState | None:
        """Change the state from one epoch to the next; returns the new state, or None if another writer was first.

        The token must be new for each change. By it the store recognises its own write whose answer was lost.
        """
        values = {name: getattr(after, name) for name in _FIELDS} | {"moved_by": token, "counts": {}}
        kept = {name: value for name, value in values.items() if value is not None}
        gone = values.keys() - kept.keys()
        missing = "attribute_not_exists(#epoch) OR " if before.epoch == 0 else ""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(before.provider),
                UpdateExpression=setting(kept) + removing(gone),
                ConditionExpression=f"{missing}#epoch = :before",
                ExpressionAttributeNames=naming(values),
                ExpressionAttributeValues=arguments(kept) | to_item({":before": before.epoch}),
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            current: Item = refused.response.get("Item", {})  # type: ignore[assignment]  # the same
            return after if from_item(current).get("moved_by") == token else None
        return after

    def _begin(self, provider: str) -> None:
        """Create the provider's item if there is none: DynamoDB can add to a map only if the map exists."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_key(provider),
                UpdateExpression="SET epoch = :zero, counts = :none",
                ConditionExpression="attribute_not_exists(epoch)",
                ExpressionAttributeValues=to_item({":zero": 0, ":none": {}}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return


def breaker_of(item: Item) -> BreakerState:
    """Return the breaker that an item, such as one of the stream, describes."""
    return _state_of(item["pk"]["S"].removeprefix(PREFIX), item)


def _state_of(provider: str, item: Item) -> BreakerState:
    values: dict[str, Any] = from_item(item)
    counts: dict[int, Count] = {}
    for name, number in values.get("counts", {}).items():
        bucket = int(name[1:])
        counts[bucket] = counts.get(bucket, Count()) + Count(*(number * (name[0] == each) for each in _LETTERS))
    known = {name: values[name] for name in _FIELDS if name in values}
    return convert(known | {"provider": provider, "counts": counts}, BreakerState)


def _key(provider: str) -> Item:
    return to_item({"pk": f"{PREFIX}{provider}", "sk": SORT_KEY})
