"""Slots: the jobs that may run now, in one item of the flow table, so that one conditional write decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from backhaul.model.clock import Clock
from backhaul.model.job import JobRef
from backhaul.store.codec import convert, from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_KEY = to_item({"pk": "SLOTS", "sk": "SLOTS"})
_ALL = "paused"
_TURN = "turn_"


@dataclass(frozen=True)
class Pause:
    """A pause of the intake: why, by which operator, and since when."""

    reason: str
    by: str
    at: datetime


@dataclass(frozen=True)
class Slots:
    """The jobs that hold a slot, what is paused, and which turn is served."""

    members: frozenset[JobRef] = frozenset()
    paused: Pause | None = None
    paused_tenants: Mapping[str, Pause] = field(default_factory=dict)
    served: Mapping[int, int] = field(default_factory=dict)
    """For each priority, the highest turn that ever started. A job that queues later gets a later turn."""

    def of(self, tenant: str) -> int:
        """Return how many slots the tenant's jobs hold."""
        return sum(member.tenant == tenant for member in self.members)

    def pause_of(self, tenant: str) -> Pause | None:
        """Return the pause that keeps this tenant's jobs from starting, or None."""
        return self.paused or self.paused_tenants.get(tenant)


class SlotStore:
    """The slots of one deployment: at most `most` jobs hold one, and at most `most_per_tenant` jobs of one tenant."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock, *, most: int, most_per_tenant: int) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self.most = most
        self.most_per_tenant = most_per_tenant

    def get(self) -> Slots:
        """Return the slots as last written."""
        found = self._client.get_item(TableName=self._table, Key=_KEY, ConsistentRead=True)
        return _slots_of(from_item(found.get("Item", {})))

    def is_full(self, slots: Slots) -> bool:
        """Return whether no job of any tenant can take a slot."""
        return len(slots.members) >= self.most or slots.paused is not None

    def is_full_for(self, tenant: str, slots: Slots) -> bool:
        """Return whether this tenant's jobs can take no slot, however many are free."""
        return slots.pause_of(tenant) is not None or slots.of(tenant) >= self.most_per_tenant

    def take(self, ref: JobRef, priority: int, turn: int) -> bool:
        """Take a slot for the job and return true, also if it holds one already; false if it can have none now."""
        names = {
            "#turn": f"{_TURN}{priority}",
            "#tenant": _tenant(ref),
            "#paused": _ALL,
            "#paused_tenant": _paused(ref.tenant),
        }
        room = "(attribute_not_exists(members) OR size(members) < :most)"
        room_for_tenant = "(attribute_not_exists(#tenant) OR size(#tenant) < :most_per_tenant)"
        running = "attribute_not_exists(#paused) AND attribute_not_exists(#paused_tenant)"
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="ADD members :member, #tenant :member SET #turn = :turn",
                ConditionExpression=f"contains(members, :name) OR ({room} AND {room_for_tenant} AND {running})",
                ExpressionAttributeNames=names,
                ExpressionAttributeValues={
                    **_member(ref),
                    **to_item(
                        {
                            ":name": _name(ref),
                            ":most": self.most,
                            ":most_per_tenant": self.most_per_tenant,
                            ":turn": turn,
                        }
                    ),
                },
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def restore(self, ref: JobRef) -> None:
        """Give a running job back the slot that it lacks, even if all slots are taken."""
        self._client.update_item(
            TableName=self._table,
            Key=_KEY,
            UpdateExpression="ADD members :member, #tenant :member",
            ExpressionAttributeNames={"#tenant": _tenant(ref)},
            ExpressionAttributeValues=_member(ref),
        )

    def drop(self, ref: JobRef) -> None:
        """Give the job's slot back; a job that holds none changes nothing."""
        self._client.update_item(
            TableName=self._table,
            Key=_KEY,
            UpdateExpression="DELETE members :member, #tenant :member",
            ExpressionAttributeNames={"#tenant": _tenant(ref)},
            ExpressionAttributeValues=_member(ref),
        )

    def pause(self, tenant: str | None, reason: str, by: str) -> None:
        """Keep the tenant's jobs from starting until `resume`; None stands for all tenants."""
        self._client.update_item(
            TableName=self._table,
            Key=_KEY,
            UpdateExpression="SET #paused = :pause",
            ExpressionAttributeNames={"#paused": _paused(tenant)},
            ExpressionAttributeValues=to_item({":pause": Pause(reason, by, self._clock.now())}),
        )

    def resume(self, tenant: str | None, pause: Pause) -> bool:
        """Let the tenant's jobs, or all jobs, start again; false if this pause has ended or another replaced it."""
        try:
            self._client.update_item(
                TableName=self._table,
                Key=_KEY,
                UpdateExpression="REMOVE #paused",
                ConditionExpression="#paused = :pause",
                ExpressionAttributeNames={"#paused": _paused(tenant)},
                ExpressionAttributeValues=to_item({":pause": pause}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def next_turn(self, tenant: str, priority: int, slots: Slots | None = None) -> int:
        """Return the tenant's next turn among jobs of a priority: after its last one, and after the served one.

        A tenant that queues many jobs gets many turns, one after the other; the first job of another tenant gets the
        turn after the served one. So tenants take turns, however many jobs each has waiting. `slots` may be given if
        the caller has just read them.
        """
        served = (slots or self.get()).served.get(priority, 0)
        key = to_item({"pk": f"TURN#{tenant}", "sk": f"TURN#{priority}"})
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression="SET turn = turn + :one",
                ConditionExpression="turn >= :served",
                ExpressionAttributeValues=to_item({":one": 1, ":served": served}),
                ReturnValues="ALL_NEW",
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            turn = served + 1
            self._client.put_item(TableName=self._table, Item=key | to_item({"turn": turn}))
            return turn
        return int(from_item(answer["Attributes"])["turn"])


def _slots_of(values: dict[str, Any]) -> Slots:
    pauses = {name: convert(value, Pause) for name, value in values.items() if name.startswith(_ALL)}
    return Slots(
        members=frozenset(JobRef(*name.split("/")) for name in values.get("members", ())),
        paused=pauses.pop(_ALL, None),
        paused_tenants={name.removeprefix(f"{_ALL}_"): pause for name, pause in pauses.items()},
        served={int(name.removeprefix(_TURN)): turn for name, turn in values.items() if name.startswith(_TURN)},
    )


def _paused(tenant: str | None) -> str:
    return f"{_ALL}_{tenant}" if tenant else _ALL


def _tenant(ref: JobRef) -> str:
    return f"t_{ref.tenant}"


def _name(ref: JobRef) -> str:
    return f"{ref.tenant}/{ref.job_id}"


def _member(ref: JobRef) -> dict[str, Any]:
    return {":member": {"SS": [_name(ref)]}}
