"""Checks of job records: that sweeps find them, that counts are right, and that no job waits for a late upload."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from backhaul.model.errors import JobNotFound
from backhaul.model.job import UPLOAD_GRACE, Counts, Job, JobState
from backhaul.model.receipt import judge
from backhaul.operations.doctor.finding import Finding
from backhaul.operations.doctor.survey import SWEPT_AFTER, Survey

_UPLOAD_WINDOW = timedelta(hours=1)


def unlisted(survey: Survey) -> Iterator[Finding]:
    """Find open jobs that no sweep can find, and jobs in an index to which they do not belong."""
    for job in (each for each in survey.jobs.values() if each is not None):
        if _is_indexed(job, survey):
            continue
        what = f"the job is {job.state} but not in the index that the sweep reads, so the sweep cannot find it"
        if job.state.is_terminal:
            what = f"the job is {job.state} but still in an index of open jobs"
        repair = partial(_index, survey, job)
        yield Finding(what, "corrects the record's index attributes", job.ref, job.updated_at, repair=repair)


def unreadable(survey: Survey) -> Iterator[Finding]:
    """Find jobs whose records this version cannot read: no stage, no sweep and no other check can handle them."""
    for ref, problem in survey.unreadable.items():
        yield Finding(str(problem), "by hand: deploy the version that wrote the record, and let the job end", ref)


def miscounted(survey: Survey) -> Iterator[Finding]:
    """Find ended jobs whose counts differ from those of their shard records."""
    for job in survey.ended():
        # Only a merge counts; the counts of a job that ended without one are those of its plan.
        if job.plan is None or job.counts is None or job.receipt is None:
            continue
        records = survey.records(job)
        # The counts are those of the ended run. They need not include what a worker wrote after the end.
        if any(each.beat_at and job.ended_at and each.beat_at > job.ended_at for each in records):
            continue
        true = judge(job, survey.plan(job), {each.index: each for each in records}).counts
        if true != job.counts:
            repair = partial(_recount, survey, job, true)
            what = f"the job's counts say {_summary(job.counts)}; its shard records say {_summary(true)}"
            yield Finding(what, "corrects the counts", job.ref, job.ended_at, repair=repair)


def unsettled_uploads(survey: Survey) -> Iterator[Finding]:
    """Find jobs that still wait for an upload after its time limit."""
    for job in survey.within(JobState.AWAITING_UPLOAD):
        if job.due_at is not None and survey.now - job.due_at > SWEPT_AFTER:
            what, mends_by = (
                "the job still waits for its upload, although the time for it has passed",
                "queues the job if the file was uploaded, otherwise expires the job",
            )
            yield Finding(what, mends_by, job.ref, job.due_at, repair=partial(_settle, survey, job))


def _is_indexed(job: Job, survey: Survey) -> bool:
    try:
        return survey.store.jobs.is_indexed(job.ref)
    except JobNotFound:  # DynamoDB has deleted the job since
        return True


def _index(survey: Survey, job: Job) -> str:
    due_at = job.due_at or survey.now
    if job.state is JobState.AWAITING_UPLOAD and job.due_at is None:  # the caller may still use its upload form
        due_at = job.created_at + _UPLOAD_WINDOW + UPLOAD_GRACE
    survey.store.jobs.index_anew(job, due_at)
    return "corrected" if _is_indexed(job, survey) else ""


def _recount(survey: Survey, job: Job, counts: Counts) -> str:
    return "counted" if survey.store.jobs.note(job, counts=counts).counts == counts else ""


def _settle(survey: Survey, job: Job) -> str:
    settled = survey.reconciler.settle_upload(job)
    survey.reconciler.admission.fill(problems={})  # the sweep starts the jobs that cannot be started now
    return settled


def _summary(counts: Counts) -> str:
    done = f"{counts.chunks_done} of {counts.chunks} chunks done"
    return f"{done}, {counts.chunks_failed} failed, {counts.records:,} records, {counts.attempts} attempts"
