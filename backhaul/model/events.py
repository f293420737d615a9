"""The events about jobs and about providers' breakers; `docs/events.md` is their contract."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from backhaul.model.breaker import BreakerState, Phase
from backhaul.model.cost import Cost
from backhaul.model.job import Cause, Counts, Job, JobState, ObjectRef

SOURCE = "backhaul"
SCHEMA_VERSION = 1

DETAIL_TYPES = {
    JobState.QUEUED: "Job Queued",
    JobState.RUNNING: "Job Started",
    JobState.SUCCEEDED: "Job Succeeded",
    JobState.PARTIAL: "Job Partial",
    JobState.PAUSED: "Job Paused",
    JobState.FAILED: "Job Failed",
    JobState.CANCELLED: "Job Cancelled",
    JobState.EXPIRED: "Job Expired",
}
"""The states that a job's event announces, with the event's detail type."""


@dataclass(frozen=True)
class Detail:
    """The detail of a job's event; its schema is `docs/schemas/job-event.v1.json`."""

    schema_version: int
    event_id: str
    """The same in every copy of an event, so that a receiver recognises a duplicate."""
    job_id: str
    tenant: str
    run: int
    """The number of the run: 0 before the upload, 1 for the first run, one more for each redrive."""
    state: JobState
    processor: str
    file_name: str
    counts: Counts | None
    output: Location | None
    receipt: Location | None
    cause: Cause | None
    cost: Cost | None = None
    """The cost of the job's calls of providers over all of its runs; None if it made none and has no cap."""


@dataclass(frozen=True)
class Location:
    """The place of an object, pinned to its version; size in bytes."""

    bucket: str
    key: str
    version_id: str
    size: int


@dataclass(frozen=True)
class BreakerDetail:
    """The detail of a breaker's event; its schema is `docs/schemas/breaker-event.v1.json`."""

    schema_version: int
    event_id: str
    provider: str
    state: Phase
    reason: str | None
    """Why the breaker opened or closed."""
    next_probe_at: datetime | None
    """When the breaker lets one call through as a probe; None if it is closed, or only a person closes it."""
    by: str | None
    """The ARN of the person who opened or closed the breaker by hand; None if a worker did."""
    why: str | None


@dataclass(frozen=True)
class Event:
    """One event, ready for the bus."""

    detail_type: str
    time: datetime
    detail: Detail | BreakerDetail


def event_of(job: Job, bucket: str) -> Event | None:
    """Return the event that announces the job's present state, or None if that state has no event."""
    if job.state not in DETAIL_TYPES:
        return None
    detail = Detail(
        schema_version=SCHEMA_VERSION,
        event_id=f"{job.ref.job_id}.{job.moves}",
        job_id=job.ref.job_id,
        tenant=job.ref.tenant,
        run=job.run,
        state=job.state,
        processor=job.processor,
        file_name=job.file_name,
        counts=job.counts,
        output=_location(bucket, job.output),
        receipt=_location(bucket, job.receipt),
        cause=job.cause and replace(job.cause, detail=None),
        cost=job.cost,
    )
    return Event(DETAIL_TYPES[job.state], job.updated_at, detail)


def event_of_breaker(before: BreakerState, after: BreakerState) -> Event | None:
    """Return the event that announces that a breaker has opened or closed; None for changes between the two.

    A probe, and its failure, leave the breaker not closed: nothing changes for callers, so there is no event.
    """
    was, now = _standing(before), _standing(after)
    if was == now or after.since is None:
        return None
    detail = BreakerDetail(
        schema_version=SCHEMA_VERSION,
        event_id=f"breaker.{after.provider}.{after.epoch}",
        provider=after.provider,
        state=after.state,
        reason=after.reason,
        next_probe_at=after.next_probe_at,
        by=after.by,
        why=after.why,
    )
    return Event("Breaker Closed" if after.state is Phase.CLOSED else "Breaker Opened", after.since, detail)


def _standing(breaker: BreakerState) -> tuple[bool, bool]:
    return breaker.state is Phase.CLOSED, breaker.is_held_open


def _location(bucket: str, ref: ObjectRef | None) -> Location | None:
    return None if ref is None else Location(bucket, ref.key, ref.version_id, ref.size)
