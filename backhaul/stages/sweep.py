"""Mend, every minute, what fell between two stages: lost runs and uploads, leaked slots, overdue and stalled work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from backhaul import keys
from backhaul.clock import Clock
from backhaul.errors import JobNotFound
from backhaul.flow.admission import CHECK_EVERY, Admission
from backhaul.flow.salvage import salvage
from backhaul.job import Cause, Job, JobRef, JobState, Stop, StopKind
from backhaul.store import JobStore, ObjectStore, RunStatus, RunStore, ShardStore, SlotStore
from backhaul.task import RunTask

JOBS_MOST = 100
"""Jobs of one state that one sweep looks at; the next sweep takes the rest."""
STOP_LONGEST = timedelta(minutes=20)
"""How long a run may take to stop by itself: longer than a hung worker can hold its shard."""
ORPHANED_AFTER = timedelta(hours=1)
"""No merge takes as long: its function would have been ended."""


@dataclass
class Swept:
    """What one sweep mended, by kind, and what it saw."""

    mended: Counter[str] = field(default_factory=Counter)
    stalled_shards: int = 0
    past_deadline: int = 0
    problems: list[Exception] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise an `ExceptionGroup` of what could not be mended."""
        if self.problems:
            raise ExceptionGroup("some jobs cannot be mended", self.problems)


@dataclass(frozen=True)
class _Stores:
    jobs: JobStore
    shards: ShardStore
    objects: ObjectStore
    runs: RunStore
    slots: SlotStore
    clock: Clock

    @property
    def admission(self) -> Admission:
        return Admission(self.jobs, self.runs, self.slots, self.clock)


def sweep(
    *, jobs: JobStore, shards: ShardStore, objects: ObjectStore, runs: RunStore, slots: SlotStore, clock: Clock
) -> Swept:
    """Look at every job that is due and every one that runs, mend what needs it, and return what was done.

    A job that cannot be mended keeps no other from it: `raise_problems` of the answer tells.
    """
    stores, swept = _Stores(jobs, shards, objects, runs, slots, clock), Swept()
    problems = swept.problems
    for state, mend in _MENDED.items():
        for job in jobs.due(state, JOBS_MOST):
            with _noted(job.ref, problems):
                swept.mended.update(mend(job, stores))
    members = slots.get().members
    for job in jobs.open(JobState.RUNNING):
        with _noted(job.ref, problems):
            _look_at_running(job, stores, swept)
            if job.ref not in members:
                swept.mended.update(_hold(job, stores))
    for member in members:
        with _noted(member, problems):
            swept.mended.update(_reconcile(member, stores))
    for orphan in objects.orphans(clock.now() - ORPHANED_AFTER):
        objects.abort(orphan)
        swept.mended["aborted_upload"] += 1
    swept.mended["started"] += stores.admission.fill()
    swept.mended = +swept.mended
    return swept


def mend_lost(task: RunTask, status: RunStatus, *, jobs: JobStore, runs: RunStore, clock: Clock) -> str | None:
    """See to the end of one job of which Step Functions says that its run has ended; None if the job had, too.

    What it says of a run that another one salvages is about that other one.
    """
    job = jobs.get(task.job)
    if job.run != task.run or job.state not in (JobState.RUNNING, JobState.MERGING):
        return None
    return salvage(job, _cause(status), jobs=jobs, runs=runs, clock=clock)


@contextmanager
def _noted(ref: JobRef, problems: list[Exception]) -> Iterator[None]:
    try:
        yield
    except Exception as problem:
        problem.add_note(f"job {ref.job_id} of tenant {ref.tenant}")
        problems.append(problem)


def _await(job: Job, stores: _Stores) -> Iterator[str]:
    upload = stores.objects.find(keys.input_key(job.ref))
    if upload is not None:  # its event was lost
        stores.admission.claim(job, upload)
        yield "claimed"
        return
    cause = Cause("upload_missing", "The file was not uploaded in time. Submit it again.")
    if stores.jobs.move(job, JobState.EXPIRED, cause=cause).state is JobState.EXPIRED:
        yield "expired"


def _wait(job: Job, stores: _Stores) -> Iterator[str]:
    """Look again later: what can start is started at the end of every sweep."""
    stores.jobs.note(job, due_at=stores.clock.now() + CHECK_EVERY)
    yield from ()


def _check(job: Job, stores: _Stores) -> Iterator[str]:
    """Ask whether the run of a job still lives, and see to its end if it does not."""
    status = stores.runs.status(job)
    if status.is_live:
        stores.jobs.note(job, due_at=stores.clock.now() + CHECK_EVERY)
    elif status.status == "ABSENT" and job.state is JobState.RUNNING:
        stores.runs.start(job)
        stores.jobs.note(job, due_at=stores.clock.now() + CHECK_EVERY)
        yield "restarted"
    else:
        yield salvage(job, _cause(status), jobs=stores.jobs, runs=stores.runs, clock=stores.clock)
        stores.jobs.note(job, due_at=stores.clock.now() + CHECK_EVERY)


def _cause(status: RunStatus) -> Cause:
    reason = f" with {status.error}" if status.error else ""
    message = f"The run ended as {status.status}{reason} without saying so."
    return Cause("run_lost", message, detail=status.cause or None)


def _look_at_running(job: Job, stores: _Stores, swept: Swept) -> None:
    now = stores.clock.now()
    swept.stalled_shards += sum(record.is_stalled(now) for record in stores.shards.all(job.ref, consistent=False))
    if job.deadline_at is not None and now > job.deadline_at:
        swept.past_deadline += 1
        if job.stop is None:
            cause = Cause("deadline_passed", f"The job's deadline of {job.policy.deadline_seconds:,} s has passed.")
            job = stores.jobs.request_stop(job, Stop(StopKind.DEADLINE, cause, now))
            swept.mended["stopped"] += 1
    if job.stop is not None and now - job.stop.at > STOP_LONGEST and stores.runs.status(job).is_live:
        stores.runs.stop(job, job.stop.cause)
        swept.mended["aborted_run"] += 1


def _hold(job: Job, stores: _Stores) -> Iterator[str]:
    """Give a job that runs the slot that it lacks, if it still does: the index is a moment late."""
    if stores.jobs.get(job.ref).state in (JobState.RUNNING, JobState.MERGING):
        stores.slots.hold(job.ref)
        yield "held_slot"


def _reconcile(member: JobRef, stores: _Stores) -> Iterator[str]:
    """Take back the slot of a job that does not run, and start one that was given a slot and not started."""
    try:
        job = stores.jobs.get(member)
    except JobNotFound:
        job = None
    if job is None or job.state.is_terminal or job.state is JobState.AWAITING_UPLOAD:
        stores.slots.drop(member)
        yield "freed_slot"
    elif job.state is JobState.QUEUED and stores.admission.begin(member):
        yield "started"


_MENDED = {
    JobState.AWAITING_UPLOAD: _await,
    JobState.QUEUED: _wait,
    JobState.RUNNING: _check,
    JobState.MERGING: _check,
}
