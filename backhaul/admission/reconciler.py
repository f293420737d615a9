"""Repair of jobs that are stuck between two stages: the rules that the sweep and the doctor share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backhaul.admission.admission import CHECK_EVERY, Admission
from backhaul.admission.salvage import salvage
from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.errors import JobNotFound
from backhaul.model.job import Cause, Job, JobRef, JobState, Stop, StopKind
from backhaul.store import JobStore, ObjectStore, RunStatus, RunStore, SlotStore

MAX_STOP = timedelta(minutes=20)
"""How long a run may take to stop by itself. It is longer than a hung worker can hold its shard."""
ORPHANED_AFTER = timedelta(days=3)
"""Age at which an unfinished upload counts as orphaned. No merge takes as long, and the bucket's lifecycle rule should
have removed it within two days."""


def is_past_deadline(job: Job, now: datetime) -> bool:
    """Return whether the job has run for longer than its policy allows."""
    return job.deadline_at is not None and now > job.deadline_at


def stop_at_deadline(job: Job, now: datetime) -> Stop:
    """Return the request that ends the run of a job that is past its deadline."""
    cause = Cause("deadline_passed", f"The job's deadline of {job.policy.deadline_seconds:,} s has passed.")
    return Stop(StopKind.DEADLINE, cause, now)


def ignores_stop(job: Job, now: datetime) -> bool:
    """Return whether the job was asked to stop so long ago that its run must be aborted."""
    return job.stop is not None and now - job.stop.at > MAX_STOP


def may_hold_slot(job: Job | None) -> bool:
    """Return whether the job may hold a slot, because it runs or is about to; None stands for a job that is gone."""
    return job is not None and not job.state.is_terminal and job.state is not JobState.AWAITING_UPLOAD


@dataclass(frozen=True)
class Reconciler:
    """Repairs one job or slot at a time and returns one word for what it did; empty if there was nothing to do.

    Every write requires that the job is as it was read, so that a job that has moved on is left alone.
    """

    jobs: JobStore
    objects: ObjectStore
    runs: RunStore
    slots: SlotStore
    clock: Clock

    @property
    def admission(self) -> Admission:
        """The rules that decide which job starts when."""
        return Admission(self.jobs, self.runs, self.slots, self.clock)

    def settle_upload(self, job: Job) -> str:
        """Claim the upload of a job whose upload window has passed; expire the job if there is no upload."""
        upload = self.objects.find(keys.input_key(job.ref))
        if upload is not None:  # its event was lost
            self.admission.claim(job, upload)
            return "claimed"
        cause = Cause("upload_missing", "The file was not uploaded in time. Submit it again.")
        expired = self.jobs.move(job, JobState.EXPIRED, cause=cause).state is JobState.EXPIRED
        return "expired" if expired else ""

    def see_to_run(self, job: Job) -> str:
        """Ask Step Functions for the job's run: start one that never began, and salvage one that has ended."""
        status = self.runs.status(job)
        if status.is_live:
            self._look_again_later(job)
            return ""
        # RUNNING is written before the run is started, so a crash between the two leaves a job without a run.
        if status.status == "ABSENT" and job.state is JobState.RUNNING:
            self.runs.start(job)
            self._look_again_later(job)
            return "restarted"
        done = salvage(job, lost(status), jobs=self.jobs, runs=self.runs, clock=self.clock)
        self._look_again_later(job)
        return done

    def keep_deadline(self, job: Job) -> Job:
        """Ask a job that is past its deadline to stop; return it as it now stands."""
        return self.jobs.request_stop(job, stop_at_deadline(job, self.clock.now()))

    def enforce_stop(self, job: Job) -> str:
        """Abort the run of a job that was asked to stop and did not."""
        if job.stop is None or not self.runs.status(job).is_live:
            return ""
        self.runs.stop(job, job.stop.cause)
        return "aborted_run"

    def free_slot(self, member: JobRef) -> str:
        """Take back the slot of a job that does not run."""
        if may_hold_slot(self._find(member)):
            return ""
        self.slots.drop(member)
        return "freed_slot"

    def settle_slot(self, member: JobRef) -> str:
        """Take back the slot of a job that does not run; start a queued job that got a slot and was not started."""
        job = self._find(member)
        if job is not None and job.state is JobState.QUEUED:
            return "started" if self.admission.begin(member) else ""
        return self.free_slot(member)

    def restore_slot(self, ref: JobRef) -> str:
        """Give a running job the slot that it lacks; take the slot back if the job has ended meanwhile."""
        job = self._find(ref)
        if job is None or job.state not in (JobState.RUNNING, JobState.MERGING):
            return ""
        self.slots.restore(ref)
        return "" if self.free_slot(ref) else "held_slot"

    def _look_again_later(self, job: Job) -> None:
        self.jobs.note(job, due_at=self.clock.now() + CHECK_EVERY)

    def _find(self, ref: JobRef) -> Job | None:
        try:
            return self.jobs.get(ref)
        except JobNotFound:
            return None


def lost(status: RunStatus) -> Cause:
    """Return the cause for a job whose run has ended in Step Functions but not in the job's record."""
    reason = f" with {status.error}" if status.error else ""
    message = f"The run ended as {status.status}{reason} before it could record its result."
    return Cause("run_lost", message, detail=status.cause or None)
