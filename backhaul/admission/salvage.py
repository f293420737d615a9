"""A run that is lost is merged by another: what it committed is output, and what is missing is named."""

from __future__ import annotations

from backhaul.model.clock import Clock
from backhaul.model.job import Cause, Job, JobState, Stop, StopKind
from backhaul.store import JobStore, RunStore


def salvage(job: Job, cause: Cause, *, jobs: JobStore, runs: RunStore, clock: Clock) -> str:
    """See to the end of a job whose run is gone; returns what was done: `salvaged`, `salvaging`, `failed`,
    or nothing because the job has ended, or has another run by now.

    Another execution merges what was committed. Only if that is gone as well does the job end here, as FAILED.
    """
    second = runs.status(job, salvage=True)
    if second.is_live:
        return "salvaging"
    if second.status == "ABSENT":
        stopped = jobs.request_stop(job, Stop(StopKind.LOST, cause, clock.now()))
        # A job that was redriven meanwhile has a run that lives: to merge that now would cut it off.
        if stopped.run != job.run or stopped.state.is_terminal:
            return ""
        runs.start(stopped, salvage=True)
        return "salvaged"
    failed = jobs.move(job, JobState.FAILED, cause=cause)
    return "failed" if failed.run == job.run and failed.cause == cause else ""
