"""Salvage: another execution merges a lost run. Its commits become output, and the receipt names what is missing."""

from __future__ import annotations

from backhaul.model.clock import Clock
from backhaul.model.job import Cause, Job, JobState, Stop, StopKind
from backhaul.store import JobStore, RunStore


def salvage(job: Job, cause: Cause, *, jobs: JobStore, runs: RunStore, clock: Clock) -> str:
    """End a job whose run is lost, and return what was done.

    `salvaged`: another execution was started, which merges what was committed. `salvaging`: it still runs. `failed`:
    it was lost as well, so the job is FAILED. Empty: the job has ended or has another run by now.
    """
    second = runs.status(job, salvage=True)
    if second.is_live:
        return "salvaging"
    if second.status == "ABSENT":
        stopped = jobs.request_stop(job, Stop(StopKind.LOST, cause, clock.now()))
        # A job that was redriven meanwhile has a live run, and a merge would cut that off.
        if stopped.run != job.run or stopped.state.is_terminal:
            return ""
        runs.start(stopped, salvage=True)
        return "salvaged"
    failed = jobs.move(job, JobState.FAILED, cause=cause)
    return "failed" if failed.run == job.run and failed.cause == cause else ""
