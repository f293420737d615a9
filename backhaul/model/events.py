"""The events that tell of jobs, and of providers' breakers; `docs/events.md` is their contract."""

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
"""The states whose beginning is announced, and under which name."""


@dataclass(frozen=True)
class Detail:
    """What an event says; its schema is `docs/schemas/job-event.v1.json`."""

    schema_version: int
    event_id: str
    """The same for every copy of an event, so that a duplicate is recognisable."""
    job_id: str
    tenant: str
    run: int
    """1 for the first, one more for each redrive; 0 before the upload."""
    state: JobState
    processor: str
    file_name: str
    counts: Counts | None
    output: Location | None
    receipt: Location | None
    cause: Cause | None
    cost: Cost | None = None
    """What calls of providers have cost in all of the job's runs; none if the job made none."""


@dataclass(frozen=True)
class Location:
    """Where an object lies, pinned to its version; size in bytes."""

    bucket: str
    key: str
    version_id: str
    size: int


@dataclass(frozen=True)
class BreakerDetail:
    """What an event says of a provider's breaker; its schema is `docs/schemas/breaker-event.v1.json`."""

    schema_version: int
    event_id: str
    provider: str
    state: Phase
    reason: str | None
    """Why calls are held back."""
    next_probe_at: datetime | None
    """When one call is let through to see; none if only a person lets calls through again."""
    by: str | None
    """Who opened or closed it by hand."""
    why: str | None


@dataclass(frozen=True)
class Event:
    """One event, ready for the bus."""

    detail_type: str
    time: datetime
    detail: Detail | BreakerDetail


def event_of(job: Job, bucket: str) -> Event | None:
    """Return the event that announces the job's present state, or None if it is not announced."""
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
    """Return the event that announces that a breaker has opened or closed; None for what lies between.

    A probe that fails changes nothing for who waits, and is not announced.
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
