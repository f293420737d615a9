"""The audit trail as an operator reads it: which acts, by whom, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from backhaul.operations.connection import Operations
from backhaul.store.audit import AuditRecord


@dataclass(frozen=True)
class Wanted:
    """Which records are asked for; what is None says nothing."""

    job: str | None = None
    """The job's ID."""
    tenant: str | None = None
    action: str | None = None
    """An action, such as `dlq discard`, or the first words of several, such as `dlq`."""
    since: datetime | None = None

    def takes(self, record: AuditRecord) -> bool:
        """Return whether a record is asked for, whenever it was written."""
        tenant, _, job = (record.job or "").partition("/")
        return (
            self.job in (None, job)
            and self.tenant in (None, tenant or record.what.get("tenant"))
            and (self.action is None or f"{record.action} ".startswith(f"{self.action} "))
        )


@dataclass(frozen=True)
class Trail:
    """Records of the audit trail, newest first, and whether they are all that were asked for."""

    records: tuple[AuditRecord, ...]
    complete: bool


def trail(operations: Operations, wanted: Wanted, limit: int) -> Trail:
    """Return the newest records that are asked for; older pages are read only until `limit` are found."""
    found = _matching(operations, wanted)
    records = tuple(islice(found, limit))
    return Trail(records, complete=next(found, None) is None)


def _matching(operations: Operations, wanted: Wanted) -> Iterator[AuditRecord]:
    return (record for record in operations.store.audit.newest(since=wanted.since) if wanted.takes(record))
