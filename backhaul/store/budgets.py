"""Budgets: what a job, a tenant's day and the deployment's day may cost, hold and have spent, each in one item."""

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
"""How long the items of a day are kept: more than a year, as the audit records are."""
_ENTRY = "h#"
_USAGE = "u#"
_COUNTERS = "cions"
"""Of a provider: calls, tokens in, tokens out, nanodollars, nanodollars saved."""


class BudgetScope(StrEnum):
    """Whose budget it is."""

    JOB = "job"
    TENANT = "tenant"
    STACK = "stack"


@dataclass(frozen=True)
class BudgetKey:
    """Which budget: a job's, or that of a tenant or of the deployment on one day (UTC)."""

    scope: BudgetScope
    owner: str = ""
    """`<tenant>#<job>`, or the tenant."""
    day: date | None = None

    @classmethod
    def of_job(cls, job: JobRef) -> BudgetKey:
        """Return the key of a job's budget."""
        return cls(BudgetScope.JOB, f"{job.tenant}#{job.job_id}")

    @classmethod
    def of_tenant(cls, tenant: str, day: date) -> BudgetKey:
        """Return the key of a tenant's budget of a day."""
        return cls(BudgetScope.TENANT, tenant, day)

    @classmethod
    def of_stack(cls, day: date) -> BudgetKey:
        """Return the key of the deployment's budget of a day."""
        return cls(BudgetScope.STACK, day=day)

    def to_item(self) -> Item:
        """Return the key of the item."""
        parts = ["BUDGET", self.scope[0].upper(), self.owner, self.day.isoformat() if self.day else ""]
        return to_item({"pk": "#".join(filter(None, parts)), "sk": "BUDGET"})


@dataclass(frozen=True)
class Entry:
    """What a budget's item says of one holder, an attempt at a shard; each write of it is a new one."""

    attempt: int
    number: int
    """Of the write: the same entry twice is the same write twice."""
    held: int = 0
    cost: int = 0
    """What the holder's settled calls cost, and what they had been estimated at."""
    estimated: int = 0
    day: int = 0
    """The ordinal of the day of which the holder last drew; only a job's budget says it."""

    def to_text(self) -> str:
        """Return the entry as the item holds it: short, because the item has one for each worker."""
        return ".".join(f"{number:x}" for number in astuple(self))

    @classmethod
    def from_text(cls, text: str) -> Entry:
        """Return the entry that an item holds."""
        return cls(*(int(number, 16) for number in text.split(".")))


@dataclass(frozen=True)
class Limit:
    """On which condition a holder draws: that the cap in the item is still this one, and at most so much is used."""

    cap: int | None
    used: int | None


@dataclass(frozen=True)
class Posting:
    """One write to a budget: a holder's entry before and after (none: there is none), and what changes in all."""

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
    """What a budget's item says; amounts in nanodollars."""

    cap: int | None = None
    """The cap that somebody set here; without one the caller's own counts."""
    spent: int = 0
    held: int = 0
    cap_by: str | None = None
    cap_why: str | None = None
    usage: Mapping[str, ProviderUsage] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def used(self) -> int:
        """What is spent or held: never more than the cap, but for calls that cost more than their estimate."""
        return self.spent + self.held


@dataclass(frozen=True)
class Posted:
    """Whether a posting is in the item, now or since it was first sent, and the item then."""

    done: bool
    state: BudgetState


class BudgetStore:
    """The budgets of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def get(self, key: BudgetKey, *, consistent: bool = True) -> BudgetState:
        """Return the budget as last written; nothing is spent or held if there is none."""
        found = self._client.get_item(TableName=self._table, Key=key.to_item(), ConsistentRead=consistent)
        return _state_of(found.get("Item", {}))

    def post(self, posting: Posting) -> Posted:
        """Write a posting if the holder's entry is as it says and the limit allows it; sent again it counts once."""
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
        """Give a budget a cap of its own in nanodollars, or take that away; below what is spent it pauses at once.

        `expires_at` is the job's own; a day's budget knows when it may be forgotten.
        """
        if amount is not None:
            check(amount, "A cap")
        expires_at = _end_of(key.day) if key.day else expires_at
        values = {":by": by, ":why": why, ":at": self._clock.now(), ":expires_at": expires_at}
        change = "SET cap_by = :by, cap_why = :why, cap_at = :at"
        if expires_at is not None:  # nobody may have spent anything yet, and nobody ever
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
    """Return the name of a shard's entry in an item that many jobs share."""
    return hashlib.blake2s(f"{job.tenant}/{job.job_id}/{shard}".encode(), digest_size=6).hexdigest()


def _within(limit: Limit, values: dict[str, Any]) -> list[str]:
    conditions = ["attribute_not_exists(cap)"]
    if limit.cap is not None:
        conditions = ["cap = :cap"]
        values[":cap"] = limit.cap
    if limit.used is not None:
        # The first to draw finds no such attribute, which no comparison is true of.
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
