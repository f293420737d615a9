"""Checks of admission: that running jobs, and no others, hold slots, and that no job waits that could start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

from backhaul.admission.reconciler import may_hold_slot
from backhaul.model.job import Job, JobRef, JobState
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import SWEPT_AFTER, Survey
from backhaul.store.job_index import Problems


def idle_slots(survey: Survey) -> Iterator[Finding]:
    """Find slots that jobs hold which do not run."""
    for ref in sorted(survey.slots.members):
        if ref not in survey.jobs:
            continue
        job = survey.jobs[ref]
        if may_hold_slot(job) or _ended_just_now(job, survey):
            continue
        held_by = f"a job that is {job.state}" if job else "a job that does not exist"
        repair = partial(survey.reconciler.free_slot, ref)
        yield Finding(
            f"a slot is held by {held_by}", "frees the slot", ref, job.ended_at if job else None, repair=repair
        )


def missing_slots(survey: Survey) -> Iterator[Finding]:
    """Find jobs that run without a slot."""
    for job in survey.within(JobState.RUNNING, JobState.MERGING):
        if job.ref not in survey.slots.members:
            repair = partial(survey.reconciler.restore_slot, job.ref)
            what = f"the job is {job.state} but has no slot, so too many jobs may run"
            yield Finding(what, "gives the job a slot", job.ref, job.started_at, repair=repair)


def idle_queue(survey: Survey) -> Iterator[Finding]:
    """Find queued jobs that may start and have not: as many as there are free slots."""
    taken = Counter(ref.tenant for ref in survey.slots.members)
    slots = survey.store.slots
    for ref in survey.queued:
        job, mine = survey.jobs.get(ref), ref in survey.slots.members
        room = taken.total() < slots.most and taken[ref.tenant] < slots.most_per_tenant
        if job is None or job.state is not JobState.QUEUED or not (mine or room) or survey.slots.pause_of(ref.tenant):
            continue
        taken[ref.tenant] += not mine
        if survey.now - job.updated_at > SWEPT_AFTER:
            yield Finding(
                "the job still waits, although it may start",
                "starts queued jobs in their order, as many as there are free slots",
                ref,
                job.updated_at,
                repair=partial(_start, survey, ref),
            )


def unplaced(survey: Survey) -> Iterator[Finding]:
    """Find queued jobs that are not in the queue."""
    for job in survey.within(JobState.QUEUED):
        if job.queue is None or job.turn is None:
            what = "the job is QUEUED but not in the queue, so it would wait forever"
            yield Finding(
                what, "puts the job back into the queue", job.ref, job.updated_at, repair=partial(_place, survey, job)
            )


def _ended_just_now(job: Job | None, survey: Survey) -> bool:
    return job is not None and job.ended_at is not None and survey.now - job.ended_at <= SWEPT_AFTER


def _start(survey: Survey, ref: JobRef) -> str:
    if ref in survey.store.slots.get().members:
        return survey.reconciler.settle_slot(ref)
    failed: Problems = {}
    started = survey.reconciler.admission.fill(problems=failed)
    if ref in failed:
        raise failed[ref]
    return f"started {started} jobs" if started else ""


def _place(survey: Survey, job: Job) -> str:
    placed = survey.store.jobs.note(job, **survey.reconciler.admission.place(job))
    return "placed" if placed.state is JobState.QUEUED and placed.run == job.run else ""
