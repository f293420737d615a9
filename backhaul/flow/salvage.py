"""A run that is lost is merged by another: what it committed is output, and what is missing is named."""

from __future__ import annotations

from backhaul.clock import Clock
from backhaul.job import Cause, Job, JobState, Stop, StopKind
from backhaul.store import JobStore, RunStore


def salvage(job: Job, cause: Cause, *, jobs: JobStore, runs: RunStore, clock: Clock) -> str:
    """See to the end of a job whose run is gone; returns what was done: `salvaged`, `salvaging` or `failed`.

    Another execution merges what was committed. Only if that is gone as well does the job end here, as FAILED.
    """
    second = runs.status(job, salvage=True)
    if second.is_live:
        return "salvaging"
    if second.status == "ABSENT":
        job = jobs.request_stop(job, Stop(StopKind.LOST, cause, clock.now()))
        if not job.state.is_terminal:
            runs.start(job, salvage=True)
        return "salvaged"
    jobs.move(job, JobState.FAILED, cause=cause)
    return "failed"
