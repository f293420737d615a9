"""Carry out what a tenant asks of a job: cancel it, redrive what is missing of it, or let it cost more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from backhaul.admission.admission import Admission
from backhaul.admission.missing_shards import missing_shards
from backhaul.admission.reconciler import Reconciler
from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.cost import Cost
from backhaul.model.errors import InvalidRequest, JobHasEnded, JobNotEnded, JobNotFound, NotRedrivable
from backhaul.model.job import BUDGET_EXHAUSTED, MOVES, Cause, Job, JobRef, JobState, Stop, StopKind
from backhaul.model.money import nanodollars
from backhaul.paid.budget.job_budget import cost_of
from backhaul.store import BudgetStore, JobStore, ObjectStore, RunStore, ShardStore, SlotStore
from backhaul.store.budgets import BudgetKey

_WAITING = (JobState.AWAITING_UPLOAD, JobState.QUEUED)
_MAX_TURNS = 10
"""How often a job may change under our hands before we call that a fault."""
_MAX_REASON = 200
"""Characters of why a budget was raised: every write to it pays for them."""


@dataclass(frozen=True)
class Redriven:
    """The job as it then stands, whether a new run was ordered, and how many chunks that has to do."""

    job: Job
    chunks: int = 0
    started: bool = False
    """False if nothing was missing."""


@dataclass(frozen=True)
class Raised:
    """What the job costs and may cost now, whether a new run was ordered, and how many chunks that has to do."""

    job: Job
    cost: Cost | None
    exceeded: bool
    """Whether that much is spent already, so that the job's next call pauses it."""
    chunks: int = 0
    started: bool = False


def cancel(ref: JobRef, reason: str | None, *, jobs: JobStore, slots: SlotStore, clock: Clock) -> Job:
    """Cancel a job that has not ended, and return it; a job that was cancelled before stays so.

    A job that waits is CANCELLED at once. One that runs is asked to stop: its workers commit and leave within
    seconds, and the merge ends it, so that what was done can be read. One that was asked to stop for another reason
    ends with that, except that it is not paused. Raises `JobNotFound` and `JobHasEnded`.
    """
    cause = Cause("cancelled", f"The job was cancelled: {reason}" if reason else "The job was cancelled.")
    job = _job(ref, jobs)
    for _ in range(_MAX_TURNS):
        if job.state is JobState.CANCELLED or _ends_soon(job):
            return job
        if job.state.is_terminal and job.state is not JobState.PAUSED:
            raise JobHasEnded(f"Job {ref.job_id} is {job.state} already; there is nothing left to cancel.")
        if job.state in _WAITING or job.state is JobState.PAUSED:
            job = jobs.move_from(job, JobState.CANCELLED, cause=cause)
            if job.state is JobState.CANCELLED:
                slots.drop(ref)
        else:
            job = jobs.request_stop(job, Stop(StopKind.CANCEL, cause, clock.now()))
    raise RuntimeError(f"Job {ref.job_id} changed {_MAX_TURNS} times while it was to be cancelled.")


def redrive(
    ref: JobRef,
    *,
    only_failed: bool,
    jobs: JobStore,
    shards: ShardStore,
    objects: ObjectStore,
    slots: SlotStore,
    runs: RunStore,
    clock: Clock,
) -> Redriven:
    """Queue a new run that does only what is missing, on the same pinned input; the output becomes a new version.

    With `only_failed` it leaves out chunks that were never tried. A job that failed before it was planned, or when
    all was done, is planned or merged anew. Raises `JobNotFound`, `JobNotEnded` (also where somebody else was
    quicker) and `NotRedrivable`.
    """
    job = _job(ref, jobs)
    if not job.state.is_terminal:
        raise JobNotEnded(f"Job {ref.job_id} is {job.state}. Redrive it once it has ended, or cancel it first.")
    if job.state is JobState.SUCCEEDED:
        return Redriven(job)
    if job.input is None or (job.input.size != job.declared_size):
        raise NotRedrivable(f"Job {ref.job_id} is {job.state} and has no input to go back to. Submit the file again.")
    kept_until = job.expires_at
    if kept_until is not None and clock.now().timestamp() + job.policy.deadline_seconds > kept_until:
        until = f"{datetime.fromtimestamp(kept_until, UTC):%Y-%m-%d %H:%M} UTC"
        raise NotRedrivable(
            f"The files of job {ref.job_id} are kept until {until}; a run may take longer. Submit anew."
        )
    if not objects.is_readable(job.input):  # an upload that was written over is not kept for as long as the job
        raise NotRedrivable(f"The input of job {ref.job_id} is not stored any more. Submit the file again.")
    missing = missing_shards(job, only_failed=only_failed, shards=shards, objects=objects)
    chunks = sum(len(shard.chunks) - len(shard.skip) for shard in missing)
    if chunks == 0 and only_failed:
        return Redriven(job)
    jobs.keep_run(job)
    admission = Admission(jobs, runs, slots, clock)
    slots.drop(ref)  # it takes its turn like any other, also if its last run's slot was not taken back yet
    queued = jobs.reopen(job, only_failed=only_failed, **admission.place(job))
    if queued is None:
        Reconciler(jobs, objects, runs, slots, clock).hold_slot(ref)  # which may be the one that we dropped
        state = jobs.get(ref).state
        raise JobNotEnded(f"Job {ref.job_id} was {job.state} and became {state} just now; somebody else was quicker.")
    if admission.fill_for(ref.tenant, queued, problems={}):  # what cannot be started now, the sweep starts
        queued = jobs.get(ref)
    return Redriven(queued, chunks, started=True)


def raise_budget(
    ref: JobRef,
    max_cost: Decimal,
    reason: str | None,
    *,
    jobs: JobStore,
    shards: ShardStore,
    objects: ObjectStore,
    slots: SlotStore,
    runs: RunStore,
    budgets: BudgetStore,
    clock: Clock,
) -> Raised:
    """Let the job cost so many dollars in all, and go on with it if it is PAUSED because its own budget was spent.

    Asked twice, or again after a crash, it does what is left to do: there is one run. Raises `JobNotFound`,
    `JobHasEnded`, `InvalidRequest` for what is no such amount, and `NotRedrivable`.
    """
    cap, why = nanodollars(max_cost), (reason or "").encode(errors="replace").decode()
    if cap == 0:
        raise InvalidRequest("max_cost is 0, so that no call could be made; to end the job, cancel it.")
    if len(why) > _MAX_REASON:
        raise InvalidRequest(f"The reason has {len(why):,} characters; {_MAX_REASON} at most work.")
    job = _job(ref, jobs)
    if job.state.is_terminal and JobState.QUEUED not in MOVES[job.state]:
        raise JobHasEnded(f"Job {ref.job_id} is {job.state} already; no call of it is left to be paid for.")
    key = BudgetKey.of_job(ref)
    state = budgets.raise_cap(key, cap, by=ref.tenant, why=why, expires_at=job.expires_at)
    cost, exceeded = cost_of(state, cap), state.spent >= cap
    job = jobs.get(ref)  # it may have been paused meanwhile
    if job.state is not JobState.PAUSED or exceeded or job.cause is None or job.cause.code != BUDGET_EXHAUSTED:
        return Raised(job, cost, exceeded)
    try:
        done = redrive(
            ref, only_failed=False, jobs=jobs, shards=shards, objects=objects, slots=slots, runs=runs, clock=clock
        )
    except JobNotEnded:  # somebody else was quicker
        return Raised(jobs.get(ref), cost, exceeded)
    return Raised(done.job, cost, exceeded, done.chunks, done.started)


def _ends_soon(job: Job) -> bool:
    """Whether the job's run was asked to stop, so that it ends for good, and is not paused."""
    return job.stop is not None and job.stop.kind is not StopKind.BUDGET and not job.state.is_terminal


def _job(ref: JobRef, jobs: JobStore) -> Job:
    if not keys.is_job_id(ref.job_id):
        raise JobNotFound(ref.job_id)
    return jobs.get(ref)
