"""Lists of jobs from the table's indexes: a tenant's jobs by time, the jobs that are due, and the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any

from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.errors import UnreadableRecord
from backhaul.model.job import Job, JobRef, JobState
from backhaul.store.codec import from_item, naming, to_item
from backhaul.store.job_item import job_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import QueryOutputTypeDef

BY_TENANT = "by-tenant"
"""Index of each tenant's jobs by job ID, which sorts by time."""
DUE = "due"
"""Sparse index of the jobs that have not ended, by state and by the time at which the sweep must look at them."""

QUEUED = "queued"
"""Sparse index of the jobs that wait for a slot, by part of the queue (`READY`, `HELD_BACK`) and by turn."""
QUEUED_BY_TENANT = "queued-by-tenant"
"""Sparse index of the same jobs, by tenant and by turn."""

READY = "queued"
"""Value of `queue` for the first waiting job of a tenant that may start one. Every start of jobs looks at these."""
HELD_BACK = "held-back"
"""Value of `queue` for all other jobs. They start only when their own tenant has a slot free."""

Problems = dict[JobRef, Exception]
"""Exceptions by the job that they are about, so that one faulty job does not keep a caller from the others."""

_QUEUED_FIRST = 25

MAX_LOOKED_AT = 1000
"""Jobs that are read for one page; those in other states are passed over."""


@dataclass(frozen=True)
class QueueEntry:
    """A waiting job, its turn, and whether it is in the part of the queue that every start of jobs looks at."""

    job: JobRef
    turn: str
    is_ready: bool = True


@dataclass(frozen=True)
class Page:
    """Some of a tenant's jobs, newest first, and the job ID after which the next page begins, if there may be one."""

    jobs: tuple[Job, ...]
    next_job_id: str | None


class JobIndex:
    """The job records of one deployment as its indexes show them, which may be a moment late."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def list(self, tenant: str, *, state: JobState | None, after: str | None, limit: int) -> Page:
        """Return up to `limit` of a tenant's jobs, newest first, beginning after the job ID `after`.

        A page may hold fewer, even none, and still name a next one: jobs in other states were passed over.
        """
        found: list[Job] = []
        last: str | None = None
        for looked_at, job in enumerate(self._newest_first(tenant, after)):
            if len(found) == limit or looked_at == MAX_LOOKED_AT:
                return Page(tuple(found), last)
            if state is None or job.state is state:
                found.append(job)
            last = job.ref.job_id
        return Page(tuple(found), None)

    def due(self, state: JobState, limit: int, problems: Problems | None = None) -> tuple[Job, ...]:
        """Return up to `limit` jobs in this state that the sweep must look at by now, longest overdue first.

        A job that this version cannot read is skipped, and its exception goes into `problems`; without `problems`,
        `UnreadableRecord` is raised.
        """
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=DUE,
            KeyConditionExpression="open_state = :state AND due_at <= :now",
            ExpressionAttributeValues=to_item({":state": state, ":now": self._clock.now()}),
            PaginationConfig={"PageSize": limit},
        )
        return tuple(islice(_jobs_in(pages, problems), limit))

    def queued(self) -> Iterator[QueueEntry]:
        """Yield every waiting job in the order of turns.

        The index is a moment late: a job that was just queued may be missing, and one that was just started may
        still be listed.
        """
        parts = (self._part(queue) for queue in (READY, HELD_BACK))
        return merge(*parts, key=lambda entry: entry.turn)

    def ready(self, limit: int) -> tuple[QueueEntry, ...]:
        """Return up to `limit` of the `READY` jobs in the order of turns; like `queued`, a moment late."""
        return self._entries(self._part_page(READY, Limit=limit))

    def queued_of(self, tenant: str, limit: int, after: str = "") -> tuple[QueueEntry, ...]:
        """Return a tenant's first waiting jobs after the turn `after`; like `queued`, a moment late."""
        page = self._client.query(
            TableName=self._table,
            IndexName=QUEUED_BY_TENANT,
            KeyConditionExpression="tenant = :tenant AND turn > :after",
            ExpressionAttributeValues=to_item({":tenant": tenant, ":after": after or " "}),
            Limit=limit,
        )
        return self._entries(page)

    def _part(self, queue: str) -> Iterator[QueueEntry]:
        # The first page is small, because most callers stop after the first few entries.
        page = self._part_page(queue, Limit=_QUEUED_FIRST)
        while True:
            yield from self._entries(page)
            if "LastEvaluatedKey" not in page:
                return
            page = self._part_page(queue, ExclusiveStartKey=page["LastEvaluatedKey"])

    def _part_page(self, queue: str, **how: Any) -> QueryOutputTypeDef:
        return self._client.query(
            TableName=self._table,
            IndexName=QUEUED,
            KeyConditionExpression="#queue = :queue",
            ExpressionAttributeNames=naming(["queue"]),
            ExpressionAttributeValues=to_item({":queue": queue}),
            **how,
        )

    @staticmethod
    def _entries(page: QueryOutputTypeDef) -> tuple[QueueEntry, ...]:
        found = (from_item(item) for item in page["Items"])
        return tuple(
            QueueEntry(keys.job_of_partition(each["pk"]), each["turn"], each["queue"] == READY) for each in found
        )

    def open(self, state: JobState, problems: Problems | None = None) -> Iterator[Job]:
        """Yield every job in this state, due or not. The state must not be terminal; `problems` as in `due`."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=DUE,
            KeyConditionExpression="open_state = :state",
            ExpressionAttributeValues=to_item({":state": state}),
        )
        return _jobs_in(pages, problems)

    def newest(self, tenant: str, problems: Problems | None = None) -> Iterator[Job]:
        """Yield all jobs of a tenant, newest first; `problems` as in `due`."""
        return self._newest_first(tenant, None, problems)

    def _newest_first(self, tenant: str, after: str | None, problems: Problems | None = None) -> Iterator[Job]:
        condition = "tenant = :tenant" + (" AND job_id < :after" if after else "")
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=BY_TENANT,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=to_item({":tenant": tenant, ":after": after}),
            ScanIndexForward=False,
        )
        return _jobs_in(pages, problems)


def _jobs_in(pages: Iterable[QueryOutputTypeDef], problems: Problems | None) -> Iterator[Job]:
    for item in (item for page in pages for item in page["Items"]):
        try:
            job = job_of(item)
        except UnreadableRecord as problem:
            if problems is None:
                raise
            problems[keys.job_of_partition(from_item(item)["pk"])] = problem
            continue
        yield job
