"""Job records in DynamoDB: every move between states is one conditional write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from backhaul import keys
from backhaul.clock import Clock
from backhaul.errors import JobNotFound
from backhaul.job import Job, JobRef, JobState
from backhaul.store.codec import Item, arguments, convert, from_item, naming, setting, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BY_TENANT = "by-tenant"
"""Index of a tenant's jobs; job IDs sort by time."""
DUE = "due"
"""Sparse index of the jobs that are not terminal, by state and by when the sweep must look at them."""

LOOKED_AT_MOST = 1000
"""Jobs that one page looks through for those in the state it wants."""

_FIELDS = tuple(item.name for item in fields(Job))


@dataclass(frozen=True)
class Page:
    """Some of a tenant's jobs, newest first, and where the next page begins, if there may be one."""

    jobs: tuple[Job, ...]
    next_job_id: str | None


class JobStore:
    """The job records of one deployment."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def create(self, job: Job) -> None:
        """Store a new job; an ID that exists already is an error, but for this very job written before."""
        item = item_of(job)
        self._client.put_item(
            TableName=self._table,
            Item=item,
            ConditionExpression="attribute_not_exists(pk) OR (moves = :moves AND created_at = :created_at)",
            ExpressionAttributeValues={":moves": item["moves"], ":created_at": item["created_at"]},
        )

    def get(self, ref: JobRef) -> Job:
        """Return the job as last written; raises `JobNotFound`."""
        found = self._client.get_item(TableName=self._table, Key=_key(ref), ConsistentRead=True)
        if "Item" not in found:
            raise JobNotFound(ref.job_id)
        return job_of(found["Item"])

    def move(self, ref: JobRef, to: JobState, *, due_at: datetime | None = None, **changes: Any) -> Job:
        """Move the job if the table of moves allows it, and return it as it now stands.

        The caller looks at the returned state: when another writer was first, nothing is written.
        Raises `JobNotFound`.
        """
        now = self._clock.now()
        values = changes | {"state": to, "updated_at": now}
        if to.is_terminal:
            values["ended_at"] = now
        else:
            values |= {"open_state": to, "due_at": due_at}
        allowed = " OR ".join(f"#state = :from_{state}" for state in sorted(to.predecessors))
        return self._update(
            ref,
            values,
            remove=("open_state", "due_at") if to.is_terminal else (),
            condition=f"attribute_exists(pk) AND ({allowed})",
            given={f"from_{state}": state for state in to.predecessors},
            counted=True,
        )

    def note(self, job: Job, **changes: Any) -> Job:
        """Change fields of the job unless its state has changed meanwhile; return it as it now stands."""
        return self._update(job.ref, changes, condition="#state = :now", given={"now": job.state}, names=("state",))

    def list(self, tenant: str, *, state: JobState | None, after: str | None, limit: int) -> Page:
        """Return up to `limit` of a tenant's jobs, newest first, beginning after the job ID `after`.

        A page may hold fewer, even none, and still name a next one: jobs in other states were passed over.
        """
        found: list[Job] = []
        last: str | None = None
        for looked_at, job in enumerate(self._newest_first(tenant, after)):
            if len(found) == limit or looked_at == LOOKED_AT_MOST:
                return Page(tuple(found), last)
            if state is None or job.state is state:
                found.append(job)
            last = job.ref.job_id
        return Page(tuple(found), None)

    def due(self, state: JobState, limit: int) -> tuple[Job, ...]:
        """Return the jobs in this state that the sweep must look at by now, longest overdue first."""
        found = self._client.query(
            TableName=self._table,
            IndexName=DUE,
            KeyConditionExpression="open_state = :state AND due_at <= :now",
            ExpressionAttributeValues=to_item({":state": state, ":now": self._clock.now()}),
            Limit=limit,
        )
        return tuple(job_of(item) for item in found["Items"])

    def _newest_first(self, tenant: str, after: str | None) -> Iterator[Job]:
        condition = "tenant = :tenant" + (" AND job_id < :after" if after else "")
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=BY_TENANT,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item({":tenant": tenant, ":after": after}),
            ScanIndexForward=False,
        )
        return (job_of(item) for page in pages for item in page["Items"])

    def _update(
        self,
        ref: JobRef,
        values: dict[str, Any],
        *,
        condition: str,
        given: dict[str, Any],
        remove: tuple[str, ...] = (),
        counted: bool = False,
        names: tuple[str, ...] = (),
    ) -> Job:
        stored = {name: value for name, value in values.items() if value is not None}
        expression = setting(stored) + (", moves = moves + :one" if counted else "")
        expression += " REMOVE " + ", ".join(remove) if remove else ""
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key=_key(ref),
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames=naming(stored) | naming(names),
                ExpressionAttributeValues=arguments(stored | given | ({"one": 1} if counted else {})),
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except self._client.exceptions.ConditionalCheckFailedException as refused:
            current: Item | None = refused.response.get("Item")  # type: ignore[assignment]  # the stubs do not know it
            if not current:
                raise JobNotFound(ref.job_id) from None
            return job_of(current)
        return job_of(answer["Attributes"])


def item_of(job: Job) -> Item:
    """Return the DynamoDB item of a job."""
    values = {name: getattr(job, name) for name in _FIELDS if name != "ref"}
    values |= {"pk": keys.partition(job.ref), "sk": keys.JOB_SORT_KEY}
    values |= {"tenant": job.ref.tenant, "job_id": job.ref.job_id}
    values |= {"options": msgspec.json.encode(job.options).decode()}
    values |= {"open_state": None if job.state.is_terminal else job.state}
    return to_item(values)


def job_of(item: Item) -> Job:
    """Return the job that a DynamoDB item, or an image of it in the stream, holds."""
    values = from_item(item)
    values["ref"] = {"tenant": values["tenant"], "job_id": values["job_id"]}
    values["options"] = msgspec.json.decode(values["options"])
    return convert({name: values.get(name) for name in _FIELDS}, Job)


def _key(ref: JobRef) -> Item:
    return to_item({"pk": keys.partition(ref), "sk": keys.JOB_SORT_KEY})
