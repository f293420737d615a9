"""Mend, every minute, what fell between two stages: expired uploads, unstarted and lost runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from backhaul.clock import Clock
from backhaul.flow.admission import CHECK_EVERY, admit
from backhaul.job import Cause, Job, JobState
from backhaul.store import JobStore, RunStatus, RunStore

JOBS_MOST = 100
"""Jobs of one state that one sweep looks at; the next sweep takes the rest."""


def sweep(*, jobs: JobStore, runs: RunStore, clock: Clock) -> Mapping[str, int]:
    """Look at every job that is due, mend what needs it, and return how many of what were mended."""
    mended: Counter[str] = Counter()
    for job in jobs.due(JobState.AWAITING_UPLOAD, JOBS_MOST):
        mended["expired"] += _expire(job, jobs)
    for job in jobs.due(JobState.QUEUED, JOBS_MOST):
        admit(job, jobs=jobs, runs=runs, clock=clock)
        mended["started"] += 1
    for state in (JobState.RUNNING, JobState.MERGING):
        for job in jobs.due(state, JOBS_MOST):
            mended[_check(job, jobs, runs, clock)] += 1
    return mended


def _expire(job: Job, jobs: JobStore) -> int:
    cause = Cause("upload_missing", "The file was not uploaded in time. Submit it again.")
    return jobs.move(job.ref, JobState.EXPIRED, cause=cause).state is JobState.EXPIRED


def _check(job: Job, jobs: JobStore, runs: RunStore, clock: Clock) -> str:
    status = runs.status(job)
    if status.is_live:
        jobs.note(job, due_at=clock.now() + CHECK_EVERY)
        return "live"
    if status.status == "ABSENT" and job.state is JobState.RUNNING:
        runs.start(job)
        jobs.note(job, due_at=clock.now() + CHECK_EVERY)
        return "started"
    jobs.move(job.ref, JobState.FAILED, cause=_cause(status))
    return "failed"


def _cause(status: RunStatus) -> Cause:
    reason = f" with {status.error}" if status.error else ""
    message = f"The run ended as {status.status}{reason} without saying so."
    return Cause("run_lost", message, detail=status.cause[:500] or None)
