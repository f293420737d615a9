"""Mend, every minute, what fell between two stages: expired uploads, unstarted and lost runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from backhaul import keys
from backhaul.clock import Clock
from backhaul.flow.admission import CHECK_EVERY, admit, claim
from backhaul.job import Cause, Job, JobState
from backhaul.store import JobStore, ObjectStore, RunStatus, RunStore

JOBS_MOST = 100
"""Jobs of one state that one sweep looks at; the next sweep takes the rest."""


def sweep(*, jobs: JobStore, objects: ObjectStore, runs: RunStore, clock: Clock) -> Mapping[str, int]:
    """Look at every job that is due, mend what needs it, and return how many of what were mended.

    A job that cannot be mended keeps no other from it: raises an `ExceptionGroup` when all are done.
    """
    mended: Counter[str] = Counter()
    problems: list[Exception] = []
    for state in (JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.RUNNING, JobState.MERGING):
        for job in jobs.due(state, JOBS_MOST):
            try:
                mended[_mend(job, jobs, objects, runs, clock)] += 1
            except Exception as problem:
                problem.add_note(f"job {job.ref.job_id} of tenant {job.ref.tenant}, {job.state}")
                problems.append(problem)
    if problems:
        raise ExceptionGroup("some jobs cannot be mended", problems)
    return mended


def _mend(job: Job, jobs: JobStore, objects: ObjectStore, runs: RunStore, clock: Clock) -> str:
    if job.state is JobState.AWAITING_UPLOAD:
        return _await(job, jobs, objects, runs, clock)
    if job.state is JobState.QUEUED:
        admit(job, jobs=jobs, runs=runs, clock=clock)
        return "started"
    return _check(job, jobs, runs, clock)


def _await(job: Job, jobs: JobStore, objects: ObjectStore, runs: RunStore, clock: Clock) -> str:
    upload = objects.find(keys.input_key(job.ref))
    if upload is not None:  # its event was lost
        job = claim(job, upload, jobs=jobs, clock=clock)
        admit(job, jobs=jobs, runs=runs, clock=clock)
        return "claimed"
    cause = Cause("upload_missing", "The file was not uploaded in time. Submit it again.")
    expired = jobs.move(job.ref, JobState.EXPIRED, cause=cause).state is JobState.EXPIRED
    return "expired" if expired else "uploaded"


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
    return Cause("run_lost", message, detail=status.cause or None)
