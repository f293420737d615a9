"""Admission: turning an upload into a queued job, and a queued job into a run."""

from __future__ import annotations

from datetime import timedelta

from backhaul.clock import Clock
from backhaul.job import Cause, Job, JobState, ObjectRef
from backhaul.store import JobStore, RunStore

CHECK_EVERY = timedelta(minutes=5)
"""How often the sweep asks whether the run of a job still lives."""


def claim(job: Job, upload: ObjectRef, *, jobs: JobStore, clock: Clock) -> Job:
    """Pin the uploaded version to its job, whoever else tries the same; return the job as it then stands."""
    if upload.size != job.declared_size:
        said = f"{job.declared_size:,} bytes were declared and {upload.size:,} arrived"
        problem = Cause("size_mismatch", f"The upload is not the declared file: {said}. Submit it again.")
        return jobs.move(job.ref, JobState.FAILED, input=upload, cause=problem)
    return jobs.move(job.ref, JobState.QUEUED, input=upload, due_at=clock.now() + CHECK_EVERY)


def admit(job: Job, *, jobs: JobStore, runs: RunStore, clock: Clock) -> Job:
    """Start the job's run, whoever else tries the same, and return the job as it then stands.

    The job is RUNNING before its run exists, so that workers never meet a queued job. A crash between
    the two is mended by whoever calls this next, because starting the same run twice changes nothing.
    """
    if job.state is JobState.QUEUED:
        now = clock.now()
        job = jobs.move(job.ref, JobState.RUNNING, run=job.run + 1, started_at=now, due_at=now + CHECK_EVERY)
    if job.state is JobState.RUNNING:
        runs.start(job)
    return job
