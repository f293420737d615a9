"""Checks of runs: that every running job has an execution, and that it stops when it is asked to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from backhaul.admission.reconciler import ignores_stop, is_past_deadline
from backhaul.model.job import Job, JobState
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import SWEPT_AFTER, Survey

_SALVAGES = "starts a run that merges what was committed, or ends the job if that is lost as well"


def lost(survey: Survey) -> Iterator[Finding]:
    """Find jobs that still run although their execution has ended."""
    for job in survey.within(JobState.RUNNING, JobState.MERGING):
        status = survey.status(job).status
        if _never_began(job, survey) or survey.lives(job):
            continue
        what = f"the job is {job.state}, but its run {job.run} is {status} and no other execution salvages it"
        yield Finding(what, _SALVAGES, job.ref, job.updated_at, repair=partial(survey.reconciler.see_to_run, job))


def unbegun(survey: Survey) -> Iterator[Finding]:
    """Find jobs whose run was ordered but has no execution."""
    for job in survey.within(JobState.RUNNING):
        if _never_began(job, survey) and survey.now - job.updated_at > SWEPT_AFTER:
            repair = partial(survey.reconciler.see_to_run, job)
            what = f"run {job.run} of the job never began"
            yield Finding(what, "starts the run", job.ref, job.updated_at, repair=repair)


def stalled(survey: Survey) -> Iterator[Finding]:
    """Find shards whose workers give no sign of life."""
    for job in survey.within(JobState.RUNNING):
        held = [record for record in survey.records(job) if record.is_stalled(survey.now)]
        if not held or not survey.status(job).is_live:
            continue
        names = ", ".join(str(record.index) for record in held[:5]) + ", …" * (len(held) > 5)
        workers = f"the worker of shard {names} has" if len(held) == 1 else f"the workers of shards {names} have"
        yield Finding(
            f"{workers} given no sign of life for more than 30 s",
            "by hand: wait until Lambda ends the worker, after worker_timeout_seconds at most, and another takes "
            "over; read the log of `process` for the cause",
            job.ref,
            min((record.beat_at for record in held if record.beat_at), default=None),
        )


def disobedient(survey: Survey) -> Iterator[Finding]:
    """Find runs that go on although they were asked to stop."""
    for job in survey.within(JobState.RUNNING):
        if job.stop is None or not ignores_stop(job, survey.now) or not survey.status(job).is_live:
            continue
        what = f"the job was asked to stop ({job.stop.kind}), but its run is still at work"
        repair = partial(survey.reconciler.enforce_stop, job)
        yield Finding(what, "stops the execution; what was committed is merged", job.ref, job.stop.at, repair=repair)


def overdue(survey: Survey) -> Iterator[Finding]:
    """Find jobs that are past their deadline and were not asked to stop."""
    for job in survey.within(JobState.RUNNING):
        late = is_past_deadline(job, survey.now - SWEPT_AFTER)
        if late and job.stop is None and survey.status(job).is_live:
            repair = partial(_stop, survey, job)
            yield Finding(
                "the job is past its deadline", "asks the run to stop", job.ref, job.deadline_at, repair=repair
            )


def _never_began(job: Job, survey: Survey) -> bool:
    return job.state is JobState.RUNNING and survey.status(job).status == "ABSENT"


def _stop(survey: Survey, job: Job) -> str:
    stopped = survey.reconciler.keep_deadline(job)
    return "asked to stop" if stopped.run == job.run and stopped.stop is not None else ""
