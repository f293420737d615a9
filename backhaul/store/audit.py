"""The audit trail: which operator did what, when and why. Only the outcome of a record is ever changed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.job import Job, JobRef
from backhaul.store.codec import Item, convert, from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STACK_PARTITION = "STACK"
AUDIT_PREFIX = "AUDIT#"
KEPT_FOR = timedelta(days=400)
"""How long a record is kept: more than a year, but not for ever, because a discarded dead letter may quote a file."""
BEGUN = "begun"
"""The outcome of an act that is not finished. It stays if the command is killed."""


@dataclass(frozen=True)
class AuditRecord:
    """One act of an operator: recorded before it is done, and completed with its outcome afterwards."""

    action: str
    who: str
    why: str
    job: str | None = None
    """`<tenant>/<job>`. Not two attributes: an index lists every item that has a tenant and a job ID as a job."""
    what: dict[str, Any] = field(default_factory=dict)
    """The object of the act: names and numbers, no content."""
    body: str | None = field(default=None, repr=False)
    """The body of the dead letter that a discard removed."""
    outcome: str = BEGUN
    at: datetime | None = None
    sk: str = ""


class AuditLog:
    """The audit records of one deployment: each is stored under `STACK`, and also under the job that it is about."""

    def __init__(self, client: DynamoDBClient, table: str, clock: Clock) -> None:
        self._client = client
        self._table = table
        self._clock = clock

    def begin(self, record: AuditRecord, job: Job | None = None) -> tuple[Item, ...]:
        """Record an act that is about to be done, and return the keys of its items for `close`.

        `job` is the job that the act is about, if that exists.
        """
        now = self._clock.now()
        sort = f"{_sort_key(now)}#{secrets.token_hex(4)}"
        values = {name: getattr(record, name) for name in ("action", "who", "why", "job", "what", "body", "outcome")}
        values |= {"sk": sort, "at": now}
        items = [values | {"pk": STACK_PARTITION, "expires_at": int((now + KEPT_FOR).timestamp())}]
        if job is not None:
            items.append(values | {"pk": keys.partition(job.ref), "expires_at": job.expires_at, "body": None})
        stored = [to_item(each) for each in items]
        self._client.transact_write_items(
            TransactItems=[{"Put": {"TableName": self._table, "Item": item}} for item in stored]
        )
        return tuple({"pk": item["pk"], "sk": item["sk"]} for item in stored)

    def close(self, begun: tuple[Item, ...], outcome: str) -> None:
        """Complete a record with its outcome."""
        for key in begun:
            self._client.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression="SET outcome = :outcome",
                ExpressionAttributeValues=to_item({":outcome": outcome}),
            )

    def newest(self, job: JobRef | None = None, *, since: datetime | None = None) -> Iterator[AuditRecord]:
        """Yield the records of the deployment, or of one job, newest first, one page after the other."""
        values = {
            ":pk": keys.partition(job) if job else STACK_PARTITION,
            ":first": _sort_key(since) if since else AUDIT_PREFIX,
            ":last": f"{AUDIT_PREFIX}~",  # after every time: those begin with digits
        }
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk AND sk BETWEEN :first AND :last",
            ExpressionAttributeValues=to_item(values),
            ScanIndexForward=False,
            ConsistentRead=True,
        )
        return (convert(from_item(item), AuditRecord) for page in pages for item in page["Items"])


def _sort_key(moment: datetime) -> str:
    """Return what the sort keys of a moment's records begin with; they sort by time."""
    return f"{AUDIT_PREFIX}{moment.astimezone(UTC).isoformat(timespec='milliseconds')}"
