"""The shapes that the HTTP API answers with: written by the functions, read by the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from backhaul.model.cost import Cost, ProviderCost
from backhaul.model.job import UPLOAD_GRACE, Cause, Counts, Job, JobState
from backhaul.model.policy import DEFAULT, Policy


@dataclass(frozen=True)
class JobView:
    """A job as its owner sees it; progress runs from 0 to 1, size is in bytes."""

    job_id: str
    state: JobState
    progress: float
    cause: Cause | None
    processor: str
    options: Mapping[str, Any]
    file_name: str
    size: int
    counts: Counts
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    upload_until: datetime | None
    output_size: int | None
    # Each field from here on has a default, because older deployments do not send it.
    run: int = 0
    """The number of the run: 0 before the upload, 1 for the first run, one more for each redrive."""
    policy: Policy = DEFAULT
    deadline_at: datetime | None = None
    stopping: Cause | None = None
    """Why the run is about to end early; None if it is not."""
    stalled_shards: int = 0
    """Shards whose workers have given no sign of life for 30 seconds."""
    waiting_for: tuple[str, ...] = ()
    """What a queued job, or a running job's shards, wait for, in words; empty in a list of jobs."""
    cost: Cost | None = None
    """The job's cap and its cost so far; None if it has no cap and called no provider.

    A list of jobs shows the cost as it was when the job's last run ended.
    """

    @classmethod
    def of(
        cls, job: Job, stalled_shards: int = 0, waiting_for: tuple[str, ...] = (), cost: Cost | None = None
    ) -> JobView:
        """Return the view of a job."""
        counts, awaiting = job.counts or Counts(), job.state is JobState.AWAITING_UPLOAD
        return cls(
            job_id=job.ref.job_id,
            state=job.state,
            progress=progress_of(job.state, counts),
            cause=job.cause,
            processor=job.processor,
            options=job.options,
            file_name=job.file_name,
            size=job.declared_size,
            counts=counts,
            created_at=job.created_at,
            updated_at=job.updated_at,
            started_at=job.started_at,
            ended_at=job.ended_at,
            upload_until=job.due_at - UPLOAD_GRACE if awaiting and job.due_at else None,
            output_size=job.output.size if job.output else None,
            run=job.run,
            policy=job.policy,
            deadline_at=None if job.state.is_terminal else job.deadline_at,
            stopping=job.stop.cause if job.stop and not job.state.is_terminal else None,
            stalled_shards=stalled_shards,
            waiting_for=waiting_for,
            cost=cost or job.cost,
        )


def progress_of(state: JobState, counts: Counts) -> float:
    """Return the share of the job's chunks that are settled, from 0 to 1.

    A failed chunk counts as settled while the job runs or merges. In any other state only chunks that are done count.
    """
    if state in (JobState.SUCCEEDED, JobState.PARTIAL):
        return 1.0
    # A queued redrive tries the failed chunks again, so they are not settled.
    failed = counts.chunks_failed if state in (JobState.RUNNING, JobState.MERGING) else 0
    settled = counts.chunks_done + failed
    return round(settled / counts.chunks, 4) if counts.chunks else 0.0


@dataclass(frozen=True)
class RedrivenView:
    """The answer to `POST /jobs/{id}/redrive`: whether a run was started, and how many chunks that run has to do."""

    job: JobView
    started: bool
    chunks: int


@dataclass(frozen=True)
class RaisedView:
    """The answer to `POST /jobs/{id}/budget`: whether a run was started, and how many chunks that run has to do."""

    job: JobView
    started: bool
    chunks: int
    exceeded: bool
    """Whether the job has already spent the new budget, so that its next call pauses it."""


@dataclass(frozen=True)
class DayUsage:
    """The calls, tokens and dollars that a tenant used on one day (UTC), by provider."""

    day: date
    usage: Mapping[str, ProviderCost]


@dataclass(frozen=True)
class UsageView:
    """The answer to `GET /usage`: the days on which the tenant made calls, oldest first."""

    days: tuple[DayUsage, ...]


@dataclass(frozen=True)
class UploadForm:
    """A presigned POST: the URL for the file, and the form fields to send before it."""

    url: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class SubmittedView:
    """The answer to `POST /jobs`."""

    job: JobView
    upload: UploadForm


@dataclass(frozen=True)
class JobPage:
    """The answer to `GET /jobs`; `next` goes into the query parameter `after`."""

    jobs: tuple[JobView, ...]
    next: str | None


@dataclass(frozen=True)
class Download:
    """A presigned URL of an output or a receipt, valid for `expires_in_seconds`; size in bytes."""

    url: str
    size: int
    expires_in_seconds: int
    file_name: str


@dataclass(frozen=True)
class ErrorBody:
    """The answer to a refused request: a stable code, and a sentence that says what to do."""

    code: str
    message: str
