"""Carry out a tenant's commands on a job: cancel it, redrive its missing chunks, or raise its budget."""

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
"""How often a job may change during one command before the command gives up."""
_MAX_REASON = 200
"""Characters of the reason for a raised budget. It is short, because every write to the budget's item pays for it."""


@dataclass(frozen=True)
class Redriven:
    """The job after a redrive, whether a new run was ordered, and how many chunks that run has to do."""

    job: Job
    chunks: int = 0
    started: bool = False
    """False if nothing was missing."""


@dataclass(frozen=True)
class Raised:
    """The job after its budget was raised, its cost and cap, whether a new run was ordered, and that run's chunks."""

    job: Job
    cost: Cost | None
    exceeded: bool
    """Whether the new cap is spent already, so that the job's next call pauses it."""
    chunks: int = 0
    started: bool = False


def cancel(ref: JobRef, reason: str | None, *, jobs: JobStore, slots: SlotStore, clock: Clock) -> Job:
    """Cancel a job that has not ended, and return it; a job that is cancelled already stays so.

    A waiting or paused job is CANCELLED at once. A running job is asked to stop: its workers commit and leave within
    seconds, and the merge ends it, so that its results so far can be read. A job that was asked to stop for another
    reason ends for that reason; only a stop for a spent budget gives way, because it would pause the job. Raises
    `JobNotFound` and `JobHasEnded`.
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
    """Queue a new run of the missing chunks, on the same pinned input; it writes a new version of the output.

    With `only_failed` the run leaves out chunks that were never tried. A job that failed before it was planned is
    planned again, and one that failed when all chunks were done is merged again. Raises `JobNotFound`, `JobNotEnded`
    (also if another caller redrove the job first) and `NotRedrivable`.
    """
    job = _job(ref, jobs)
    if not job.state.is_terminal:
        raise JobNotEnded(f"Job {ref.job_id} is {job.state}. Redrive it once it has ended, or cancel it first.")
    if job.state is JobState.SUCCEEDED:
        return Redriven(job)
    if job.input is None or (job.input.size != job.declared_size):
        raise NotRedrivable(
            f"Job {ref.job_id} is {job.state} and has no input that another run could use. Submit the file again."
        )
    kept_until = job.expires_at
    if kept_until is not None and clock.now().timestamp() + job.policy.deadline_seconds > kept_until:
        until = f"{datetime.fromtimestamp(kept_until, UTC):%Y-%m-%d %H:%M} UTC"
        raise NotRedrivable(
            f"The files of job {ref.job_id} are kept only until {until}, and a run may take longer. Submit "
            "the file again."
        )
    if not objects.is_readable(job.input):  # S3 deletes an overwritten version earlier than the job
        raise NotRedrivable(f"The input of job {ref.job_id} is not stored any more. Submit the file again.")
    missing = missing_shards(job, only_failed=only_failed, shards=shards, objects=objects)
    chunks = sum(len(shard.chunks) - len(shard.skip) for shard in missing)
    if chunks == 0 and only_failed:
        return Redriven(job)
    jobs.keep_run(job)
    admission = Admission(jobs, runs, slots, clock)
    slots.drop(ref)  # the last run's slot may not be taken back yet, and the new run must wait for its turn
    queued = jobs.reopen(job, only_failed=only_failed, **admission.place(job))
    if queued is None:
        # The slot that was dropped above may have been that of the other caller's run.
        Reconciler(jobs, objects, runs, slots, clock).restore_slot(ref)
        state = jobs.get(ref).state
        raise JobNotEnded(f"Job {ref.job_id} was {job.state} and has just become {state}, by another request.")
    if admission.fill_for(ref.tenant, queued, problems={}):  # the sweep starts jobs that cannot be started now
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
    """Set the job's cap to so many dollars in all, and redrive the job if it is PAUSED because its budget was spent.

    A repeat, or another try after a crash, only does what is left to do, so there is one new run. Raises
    `JobNotFound`, `JobHasEnded`, `InvalidRequest` for an impossible amount, and `NotRedrivable`.
    """
    cap, why = nanodollars(max_cost), (reason or "").encode(errors="replace").decode()
    if cap == 0:
        raise InvalidRequest(
            "max_cost is 0, so no call could be made. Give a larger amount; to end the job, cancel it."
        )
    if len(why) > _MAX_REASON:
        raise InvalidRequest(f"The reason has {len(why):,} characters; {_MAX_REASON} at most are allowed.")
    job = _job(ref, jobs)
    if job.state.is_terminal and JobState.QUEUED not in MOVES[job.state]:
        raise JobHasEnded(f"Job {ref.job_id} is {job.state} already, so it makes no more calls that cost money.")
    key = BudgetKey.of_job(ref)
    state = budgets.raise_cap(key, cap, by=ref.tenant, why=why, expires_at=job.expires_at)
    cost, exceeded = cost_of(state, cap), state.spent >= cap
    job = jobs.get(ref)  # read again, because the job may have been paused before its cap was raised
    if job.state is not JobState.PAUSED or exceeded or job.cause is None or job.cause.code != BUDGET_EXHAUSTED:
        return Raised(job, cost, exceeded)
    try:
        done = redrive(
            ref, only_failed=False, jobs=jobs, shards=shards, objects=objects, slots=slots, runs=runs, clock=clock
        )
    except JobNotEnded:  # another caller redrove the job first
        return Raised(jobs.get(ref), cost, exceeded)
    return Raised(done.job, cost, exceeded, done.chunks, done.started)


def _ends_soon(job: Job) -> bool:
    """Return whether the job's run was asked to stop for a reason that ends the job and does not pause it."""
    return job.stop is not None and job.stop.kind is not StopKind.BUDGET and not job.state.is_terminal


def _job(ref: JobRef, jobs: JobStore) -> Job:
    if not keys.is_job_id(ref.job_id):
        raise JobNotFound(ref.job_id)
    return jobs.get(ref)
