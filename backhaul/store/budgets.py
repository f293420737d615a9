"""Budgets: the cap, the holds and the spending of a job, a tenant's day and the deployment's day, one item each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from backhaul.model.clock import Clock
from backhaul.model.cost import ProviderUsage as ProviderUsage
from backhaul.model.job import JobRef
from backhaul.model.money import check
from backhaul.store.codec import Item, from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEPT_FOR = timedelta(days=400)
"""How long a day's budgets are kept: more than a year, like the audit records."""
_ENTRY = "h#"
_USAGE = "u#"
_COUNTERS = "cions"
"""One letter for each counter of a provider: calls, tokens in, tokens out, nanodollars, nanodollars saved."""


class BudgetScope(StrEnum):
    """The kind of owner that a budget has."""

    JOB = "job"
    TENANT = "tenant"
    STACK = "stack"


@dataclass(frozen=True)
class BudgetKey:
    """The name of one budget: a job's, a tenant's for one day, or the deployment's for one day (UTC)."""

    scope: BudgetScope
    owner: str = ""
    """`<tenant>#<job>` for a job's budget, the tenant for a tenant's, empty for the deployment's."""
    day: date | None = None

    @classmethod
    def of_job(cls, job: JobRef) -> BudgetKey:
        """Return the key of a job's budget."""
        return cls(BudgetScope.JOB, f"{job.tenant}#{job.job_id}")

    @classmethod
    def of_tenant(cls, tenant: str, day: date) -> BudgetKey:
        """Return the key of a tenant's budget for a day."""
        return cls(BudgetScope.TENANT, tenant, day)

    @classmethod
    def of_stack(cls, day: date) -> BudgetKey:
        """Return the key of the deployment's budget for a day."""
        return cls(BudgetScope.STACK, day=day)

    def to_item(self) -> Item:
        """Return the primary key of the budget's item."""
        parts = ["BUDGET", self.scope[0].upper(), self.owner, self.day.isoformat() if self.day else ""]
        return to_item({"pk": "#".join(filter(None, parts)), "sk": "BUDGET"})


@dataclass(frozen=True)
class Entry:
    """One holder's part of a budget's item. The holder is an attempt at a shard; each write replaces its entry."""

    attempt: int
    number: int
    """The number of the write. Two entries with the same number are the same write, sent twice."""
    held: int = 0
    cost: int = 0
    """What the holder's settled calls cost; `estimated` is what had been held for them."""
    estimated: int = 0
    day: int = 0
    """The ordinal of the day whose budget the holder drew from last; only a job's budget has it."""

    def to_text(self) -> str:
        """Return the entry as text for the item. It is short, because the item has one for each worker."""
        return ".".join(f"{number:x}" for number in astuple(self))

    @classmethod
    def from_text(cls, text: str) -> Entry:
        """Return the entry that `to_text` wrote."""
        return cls(*(int(number, 16) for number in text.split(".")))


@dataclass(frozen=True)
class Limit:
    """The condition of a draw: the item still has this cap, and at most this much of it is used."""

    cap: int | None
    used: int | None


@dataclass(frozen=True)
class Posting:
    """One write to a budget: the holder's entry before and after (None for no entry), and the change of the totals."""

    key: BudgetKey
    name: str
    before: Entry | None
    after: Entry | None
    held: int = 0
    used: int = 0
    usage: Mapping[str, ProviderUsage] = field(default_factory=dict)
    limit: Limit | None = None
    expires_at: int | None = None


@dataclass(frozen=True)
class BudgetState:
    """A budget as its item holds it; amounts in nanodollars."""

    cap: int | None = None
    """The cap that a person has set in the item; without one, the cap that the caller knows applies."""
    spent: int = 0
    held: int = 0
    cap_by: str | None = None
    cap_why: str | None = None
    usage: Mapping[str, ProviderUsage] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """What is spent or held. It exceeds the cap only by what calls cost beyond their estimate."""
        return self.spent + self.held


@dataclass(frozen=True)
class Posted:
    """Whether a posting is in the item, by this request or an earlier one, and the budget after it."""

    done: bool
    state: BudgetState


class BudgetStore:
    """The budgets of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def get(self, key: BudgetKey, *, consistent: bool = True) -> BudgetState:
        """Return the budget as last written; one without an item has spent and held nothing."""
        found = self._client.get_item(TableName=self._table, Key=key.to_item(), ConsistentRead=consistent)
        return _state_of(found.get("Item", {}))

    def post(self, posting: Posting) -> Posted:
        """Write a posting if the holder's entry is unchanged and the limit allows it; sent twice, it counts once."""
        names = {"#entry": _ENTRY + posting.name}
        expires_at = _end_of(posting.key.day) if posting.key.day else posting.expires_at
        values: dict[str, Any] = {":held": posting.held, ":used": posting.used, ":expires_at": expires_at}
        for name, entry in ((":before", posting.before), (":after", posting.after)):
            values[name] = entry and entry.to_text()
        sets, adds = [], ["held :held", "used :used"]
        for number, (provider, usage) in enumerate(sorted(posting.usage.items())):
            for letter, amount in zip(_COUNTERS, astuple(usage), strict=True):
                if amount:
                    names[f"#{letter}{number}"] = f"{_USAGE}{letter}#{provider}"
                    values[f":{letter}{number}"] = amount
                    adds.append(f"#{letter}{number} :{letter}{number}")
        if posting.after:
            sets.append("#entry = :after")
        if expires_at is not None:
            sets.append("expires_at = if_not_exists(expires_at, :expires_at)")
        conditions = ["#entry = :before" if posting.before else "attribute_not_exists(#entry)"]
        if posting.limit:
            conditions += _within(posting.limit, values)
        parts = [f"ADD {', '.join(adds)}", f"SET {', '.join(sets)}" if sets else ""]
        parts.append("REMOVE #entry" if posting.before and not posting.after else "")
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=posting.key.to_item(),
                UpdateExpression=" ".join(filter(None, parts)),
                ConditionExpression=" AND ".join(conditions),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_item(values),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            state = _state_of(refused.response.get("Item", {}))  # type: ignore[arg-type]  # the stubs do not know it
            found = state.entries.get(posting.name)
            return Posted(found != posting.before and found == posting.after, state)
        return Posted(True, _state_of(answer["Attributes"]))

    def raise_cap(
        self, key: BudgetKey, amount: int | None, *, by: str, why: str, expires_at: int | None = None
    ) -> BudgetState:
        """Set a budget's own cap in nanodollars, or remove it with None, and return the budget.

        A cap below what is spent pauses the budget's jobs at their next call. `expires_at` is that of the job; a
        day's budget has its own.
        """
        if amount is not None:
            check(amount, "A cap")
        expires_at = _end_of(key.day) if key.day else expires_at
        values = {":by": by, ":why": why, ":at": self._clock.now(), ":expires_at": expires_at}
        change = "SET cap_by = :by, cap_why = :why, cap_at = :at"
        if expires_at is not None:  # this write may be the item's first, and its last
            change += ", expires_at = if_not_exists(expires_at, :expires_at)"
        answer = self._client.update_item(
            TableName=self._table,
            Key=key.to_item(),
            UpdateExpression=f"{change} REMOVE cap" if amount is None else f"{change}, cap = :cap",
            ExpressionAttributeValues=to_item(values | {":cap": amount}),
            ReturnValues="ALL_NEW",
        )
        return _state_of(answer["Attributes"])


def _end_of(day: date) -> int:
    return int((datetime.combine(day, datetime.min.time(), UTC) + KEPT_FOR).timestamp())


def digest_of(job: JobRef, shard: int) -> str:
    """Return the name of a shard's entry in a budget that many jobs share."""
    return hashlib.blake2s(f"{job.tenant}/{job.job_id}/{shard}".encode(), digest_size=6).hexdigest()


def _within(limit: Limit, values: dict[str, Any]) -> list[str]:
    conditions = ["attribute_not_exists(cap)"]
    if limit.cap is not None:
        conditions = ["cap = :cap"]
        values[":cap"] = limit.cap
    if limit.used is not None:
        # The first draw finds no `used`, and DynamoDB finds every comparison with a missing attribute false. A negative
        # bound allows no draw, not even the first.
        conditions.append("(attribute_not_exists(used) OR used <= :most)" if limit.used >= 0 else "used <= :most")
        values[":most"] = limit.used
    return conditions


def _state_of(item: Item) -> BudgetState:
    values: dict[str, Any] = from_item(item)
    usage: dict[str, dict[str, int]] = {}
    for name in [name for name in values if name.startswith(_USAGE)]:
        _, letter, provider = name.split("#", 2)
        usage.setdefault(provider, {})[letter] = values[name]
    return BudgetState(
        cap=values.get("cap"),
        spent=values.get("used", 0) - values.get("held", 0),
        held=values.get("held", 0),
        cap_by=values.get("cap_by"),
        cap_why=values.get("cap_why"),
        usage={name: ProviderUsage(*(counts.get(letter, 0) for letter in _COUNTERS)) for name, counts in usage.items()},
        entries={
            name.removeprefix(_ENTRY): Entry.from_text(values[name]) for name in values if name.startswith(_ENTRY)
        },
    )
