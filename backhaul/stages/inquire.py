"""Answer a tenant's questions about its jobs."""

from __future__ import annotations

from dataclasses import replace

from backhaul import keys
from backhaul.api import Download
from backhaul.clock import Clock
from backhaul.errors import InvalidRequest, JobNotFound, ResultNotReady
from backhaul.job import Counts, Job, JobRef, JobState, ObjectRef
from backhaul.progress import ShardRecord, count
from backhaul.settings import Settings
from backhaul.store import JobStore, ObjectStore, Page, ShardStore, SlotStore

PAGE_LARGEST = 100


def job_status(ref: JobRef, *, jobs: JobStore, shards: ShardStore, clock: Clock) -> tuple[Job, int]:
    """Return the job with its counts as of now, and how many of its shards stall; raises `JobNotFound`."""
    job = _job(ref, jobs)
    if job.state not in (JobState.RUNNING, JobState.MERGING):
        return job, 0
    records = list(shards.all(job.ref, consistent=False))
    now = clock.now()
    return replace(job, counts=_counts(job, records)), sum(record.is_stalled(now) for record in records)


def waiting_for(job: Job, slots: SlotStore) -> str:
    """Return what a queued job waits for, as its owner may read it."""
    now = slots.get()
    paused, mine = now.pause_of(job.ref.tenant), now.of(job.ref.tenant)
    if paused is not None:
        return f"the intake is paused: {paused.reason}"
    if len(now.members) >= slots.most:
        return f"a slot: {len(now.members)} of {slots.most} jobs run"
    if mine >= slots.most_per_tenant:
        return f"a slot: {mine} of your {slots.most_per_tenant} jobs run"
    return "its turn"


def list_jobs(tenant: str, *, state: str | None, after: str | None, limit: int, jobs: JobStore) -> Page:
    """Return a page of the tenant's jobs, newest first; raises `InvalidRequest`."""
    if not 1 <= limit <= PAGE_LARGEST:
        raise InvalidRequest(f"limit must be 1 to {PAGE_LARGEST}.")
    if state is not None and state not in JobState.__members__:
        raise InvalidRequest(f"There is no state {state!r}. Use one of: {', '.join(JobState)}.")
    if after is not None and not keys.is_job_id(after):
        raise InvalidRequest("after must be the job ID that the page before named as next.")
    return jobs.list(tenant, state=JobState(state) if state else None, after=after, limit=limit)


def job_result(
    ref: JobRef, *, run: int | None = None, jobs: JobStore, objects: ObjectStore, settings: Settings
) -> Download:
    """Return where to fetch the output of the job, or of an earlier run.

    Raises `JobNotFound`, `RunNotFound` and `ResultNotReady`.
    """
    job = _of_run(_job(ref, jobs), run, jobs)
    return _download(job, job.output, f"{job.processor}-{job.file_name}", objects, settings)


def job_receipt(
    ref: JobRef, *, run: int | None = None, jobs: JobStore, objects: ObjectStore, settings: Settings
) -> Download:
    """Return where to fetch the receipt of the job, or of an earlier run; raises like `job_result`."""
    job = _of_run(_job(ref, jobs), run, jobs)
    return _download(job, job.receipt, f"{job.ref.job_id}-receipt.json", objects, settings)


def _job(ref: JobRef, jobs: JobStore) -> Job:
    if not keys.is_job_id(ref.job_id):
        raise JobNotFound(ref.job_id)
    return jobs.get(ref)


def _download(job: Job, ref: ObjectRef | None, name: str, objects: ObjectStore, settings: Settings) -> Download:
    if ref is None:
        raise ResultNotReady(_why_not_ready(job))
    seconds = settings.result_window_seconds
    url = objects.presign_download(ref, file_name=name, seconds=seconds)
    return Download(url, ref.size, seconds, name)


def _why_not_ready(job: Job) -> str:
    if not job.state.is_terminal:
        return f"Job {job.ref.job_id} is {job.state}. Ask again once it has ended."
    cause = f": {job.cause.message}" if job.cause else "."
    return f"Job {job.ref.job_id} is {job.state} and has no output{cause}"


def _of_run(job: Job, run: int | None, jobs: JobStore) -> Job:
    return job if run is None else jobs.of_run(job, run)


def _counts(job: Job, records: list[ShardRecord]) -> Counts:
    planned = job.counts or Counts()
    failed = sum(len(record.failed) for record in records)
    return count(records, shards=planned.shards, chunks=planned.chunks, chunks_failed=failed)
