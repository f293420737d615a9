"""Repair, every minute, jobs between two stages: lost runs and uploads, leaked slots, overdue and stalled work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from backhaul.admission.admission import CHECK_EVERY
from backhaul.admission.reconciler import MAX_STOP, Reconciler, ignores_stop, is_past_deadline, lost
from backhaul.admission.salvage import salvage
from backhaul.admission.waker import WaitSweep, Waker
from backhaul.model.clock import Clock
from backhaul.model.job import Job, JobRef, JobState
from backhaul.model.task import RunTask
from backhaul.store import (
    BreakerStore,
    Callbacks,
    JobStore,
    ObjectStore,
    RunStatus,
    RunStore,
    ShardStore,
    SlotStore,
    WaitStore,
)
from backhaul.store.job_index import Problems

MAX_JOBS = 100
"""Due jobs of each state that one sweep repairs; the next sweep takes the rest."""


PAST_DEADLINE_AFTER = MAX_STOP + timedelta(minutes=10)
"""Time after its deadline at which a job that still runs is counted as a fault: its execution should be aborted."""
MAX_LOOKED = 30.0
"""Seconds after which a sweep looks at no more running jobs, so that it ends within its function's timeout."""


@dataclass
class Swept:
    """The repairs of one sweep by kind, and what it counted."""

    mended: Counter[str] = field(default_factory=Counter)
    stalled_shards: int = 0
    past_deadline: int = 0
    """Jobs that still run long after their deadline, although the sweep should have ended them."""
    problems: list[Exception] = field(default_factory=list)

    def note(self, mended: str) -> None:
        """Count one repair by its word; an empty word, for no repair, is not counted."""
        if mended:
            self.mended[mended] += 1

    def raise_problems(self) -> None:
        """Raise an `ExceptionGroup` of the faults that could not be repaired, if there are any."""
        if self.problems:
            raise ExceptionGroup("some jobs cannot be mended", self.problems)


def sweep(
    *,
    jobs: JobStore,
    shards: ShardStore,
    objects: ObjectStore,
    runs: RunStore,
    slots: SlotStore,
    waits: WaitStore,
    breakers: BreakerStore,
    callbacks: Callbacks,
    clock: Clock,
) -> Swept:
    """Look at every due job, every slot and every running job, repair what needs it, and return what was done.

    A job that cannot be repaired does not stop the others: `raise_problems` of the result raises its exception.
    """
    reconciler, swept = Reconciler(jobs, objects, runs, slots, clock), Swept()
    problems, began = swept.problems, clock.monotonic()
    failed: Problems = {}
    for state, mend in _MENDED.items():
        for job in jobs.due(state, MAX_JOBS, failed):
            with _noted(job.ref, problems):
                swept.note(mend(reconciler, job))
    for member in slots.get().members:
        with _noted(member, problems):
            swept.note(reconciler.settle_slot(member))
    swept.mended["started"] += reconciler.admission.fill(problems=failed)
    # Last, because it reads the most: what there is no time for, the next sweep sees.
    members, wait_sweep = slots.get().members, WaitSweep(Waker(waits, callbacks), breakers, clock)
    for job in jobs.open(JobState.RUNNING, failed):
        if clock.monotonic() - began > MAX_LOOKED:
            break
        with _noted(job.ref, problems):
            _look_at_running(job, reconciler, shards, swept)
            if job.ref not in members:
                swept.note(reconciler.restore_slot(job.ref))
            swept.mended["woken"] += wait_sweep.look_at(job)
    for provider in wait_sweep.providers:
        with _noted_provider(provider, problems):
            swept.mended["woken"] += wait_sweep.look_at_provider(provider)
    problems += failed.values()
    swept.mended = +swept.mended
    return swept


def mend_lost(task: RunTask, status: RunStatus, *, jobs: JobStore, runs: RunStore, clock: Clock) -> str | None:
    """Salvage or end a job whose run has ended in Step Functions; None if the job has ended or has another run.

    If an execution already salvages the run, the event may be about that execution, and `salvage` asks for it.
    """
    job = jobs.get(task.job)
    if job.run != task.run or job.state not in (JobState.RUNNING, JobState.MERGING):
        return None
    return salvage(job, lost(status), jobs=jobs, runs=runs, clock=clock) or None


@contextmanager
def _noted(ref: JobRef, problems: list[Exception]) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        problem.add_note(f"job {ref.job_id} of tenant {ref.tenant}")
        problems.append(problem)


@contextmanager
def _noted_provider(provider: str, problems: list[Exception]) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        problem.add_note(f"provider {provider}")
        problems.append(problem)


def _wait(reconciler: Reconciler, job: Job) -> str:
    """Only set a later time: the end of every sweep starts the queued jobs that may start."""
    later = {"due_at": reconciler.clock.now() + CHECK_EVERY}
    # A job that an older version of Backhaul queued has no place in the queue yet.
    reconciler.jobs.note(job, **(later if job.turn else reconciler.admission.place(job)))
    return ""


def _look_at_running(job: Job, reconciler: Reconciler, shards: ShardStore, swept: Swept) -> None:
    now = reconciler.clock.now()
    swept.stalled_shards += sum(record.is_stalled(now) for record in shards.all(job.ref, consistent=False))
    swept.past_deadline += is_past_deadline(job, now - PAST_DEADLINE_AFTER)
    if is_past_deadline(job, now) and job.stop is None:
        job = reconciler.keep_deadline(job)
        swept.note("stopped")
    if ignores_stop(job, now):
        swept.note(reconciler.enforce_stop(job))


_MENDED: Mapping[JobState, Callable[[Reconciler, Job], str]] = {
    JobState.AWAITING_UPLOAD: Reconciler.settle_upload,
    JobState.QUEUED: _wait,
    JobState.RUNNING: Reconciler.see_to_run,
    JobState.MERGING: Reconciler.see_to_run,
}
