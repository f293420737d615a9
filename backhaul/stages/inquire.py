"""Answer a tenant's questions about its jobs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from backhaul.model import keys
from backhaul.model.api import DayUsage, Download
from backhaul.model.clock import Clock
from backhaul.model.cost import Cost
from backhaul.model.errors import ForeignObject, InvalidRequest, JobNotFound, ResultNotReady
from backhaul.model.job import Counts, Job, JobRef, JobState, ObjectRef
from backhaul.model.outage import is_outage
from backhaul.model.progress import ShardRecord, count
from backhaul.model.settings import Settings
from backhaul.paid.budget.job_budget import by_day, cost_of
from backhaul.store import BudgetStore, JobStore, ObjectStore, Page, ShardStore, SlotStore
from backhaul.store.budgets import BudgetKey

MAX_PAGE = 100
MAX_DAYS = 92
"""The most days of one question, a quarter of a year: each day costs a read."""
DAYS = 30
MAX_WAITS = 5


@dataclass(frozen=True)
class Status:
    """A job, the number of its stalled shards, what it waits for, and what it has cost so far."""

    job: Job
    stalled_shards: int = 0
    waiting_for: tuple[str, ...] = ()
    cost: Cost | None = None


def job_status(
    ref: JobRef, *, jobs: JobStore, shards: ShardStore, slots: SlotStore, budgets: BudgetStore, clock: Clock
) -> Status:
    """Return the job's status; raises `JobNotFound`.

    If its budget cannot be read, the cost is that from the end of its last run, so that the status can be read
    nevertheless.
    """
    job = _job(ref, jobs)
    cost = _cost(job, budgets)
    if job.state is JobState.QUEUED:
        return Status(job, waiting_for=(waiting_for(job, slots),), cost=cost)
    if job.state not in (JobState.RUNNING, JobState.MERGING):
        return Status(job, cost=cost)
    records, now = list(shards.all(job.ref, consistent=False)), clock.now()
    stalled = sum(record.is_stalled(now) for record in records)
    waits = _waits(records, now) if job.state is JobState.RUNNING else ()
    return Status(replace(job, counts=_counts(job, records)), stalled, waits, cost)


def waiting_for(job: Job, slots: SlotStore) -> str:
    """Return what a queued job waits for, in words for its owner."""
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
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"limit must be 1 to {MAX_PAGE}.")
    if state is not None and state not in JobState.__members__:
        raise InvalidRequest(f"There is no state {state!r}. Use one of: {', '.join(JobState)}.")
    if after is not None and not keys.is_job_id(after):
        raise InvalidRequest("after must be the job ID that the page before named as next.")
    return jobs.list(tenant, state=JobState(state) if state else None, after=after, limit=limit)


def job_result(
    ref: JobRef, *, run: int | None = None, jobs: JobStore, objects: ObjectStore, settings: Settings
) -> Download:
    """Return a URL for the output of the job, or of its earlier run `run`.

    Raises `JobNotFound`, `RunNotFound` and `ResultNotReady`, and `ForeignObject` for an object that is not the job's.
    """
    job = _of_run(_job(ref, jobs), run, jobs)
    if job.output is not None and not keys.is_output_of(ref, job.output.key):
        raise ForeignObject(ref.job_id, job.output.key)
    return _download(job, job.output, f"{job.processor}-{job.file_name}", objects, settings)


def job_receipt(
    ref: JobRef, *, run: int | None = None, jobs: JobStore, objects: ObjectStore, settings: Settings
) -> Download:
    """Return a URL for the receipt of the job, or of its earlier run `run`; raises like `job_result`."""
    job = _of_run(_job(ref, jobs), run, jobs)
    if job.receipt is not None and not keys.is_receipt_of(ref, job.receipt.key):
        raise ForeignObject(ref.job_id, job.receipt.key)
    return _download(job, job.receipt, f"{job.ref.job_id}-receipt.json", objects, settings)


def usage_by_day(
    tenant: str, *, first: str | None, last: str | None, budgets: BudgetStore, clock: Clock
) -> tuple[DayUsage, ...]:
    """Return the tenant's use of providers for each day from `first` to `last`, inclusive, in UTC.

    The default of `last` is today, and that of `first` is 29 days before `last`. Raises `InvalidRequest`.
    """
    end = _day("to", last) if last is not None else clock.now().date()
    start = _day("from", first) if first is not None else date.fromordinal(max(1, end.toordinal() - DAYS + 1))
    if start > end:
        raise InvalidRequest(f"from is {start}, which is after {end}. Give the earlier day as from.")
    if (end - start).days >= MAX_DAYS:
        raise InvalidRequest(f"From {start} to {end} are more than {MAX_DAYS} days; ask for fewer at a time.")
    found = by_day(budgets, lambda day: BudgetKey.of_tenant(tenant, day), start, end)
    return tuple(DayUsage(day, usage) for day, usage in found.items())


def _day(name: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:  # fromisoformat also takes weeks and digits without dashes
        raise InvalidRequest(f"{name} must be a day such as 2026-11-22, in UTC.")
    return day


def _cost(job: Job, budgets: BudgetStore) -> Cost | None:
    try:
        return cost_of(budgets.get(BudgetKey.of_job(job.ref), consistent=False), job.policy.cap)
    except Exception as error:
        if not is_outage(error):
            raise
        return job.cost


def _waits(records: Sequence[ShardRecord], now: datetime) -> tuple[str, ...]:
    """Return each thing that shards wait for once, with the time when the first shard goes on, soonest first."""
    soonest: dict[str, datetime] = {}
    for wait in filter(None, (record.waits_for() for record in records)):
        soonest[wait.what] = min(wait.until, soonest.get(wait.what, wait.until))
    waits = sorted(soonest.items(), key=lambda each: each[1])
    told = [f"{what}; goes on {_when(until, now)}" for what, until in waits[:MAX_WAITS]]
    return (*told, *([f"and {len(waits) - MAX_WAITS} more"] if len(waits) > MAX_WAITS else []))


def _when(until: datetime, now: datetime) -> str:
    seconds = math.ceil((until - now).total_seconds())
    return f"in {seconds:,} s, at {until:%H:%M:%S} UTC" if seconds > 0 else "now"


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
