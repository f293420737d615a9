"""Mending what fell between two stages: the rules that the sweep and the doctor have in common."""

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
"""How long a run may take to stop by itself: longer than a hung worker can hold its shard."""
ORPHANED_AFTER = timedelta(days=3)
"""No merge takes as long, and the bucket's lifecycle rule removes an unfinished upload within two days."""


def is_past_deadline(job: Job, now: datetime) -> bool:
    """Return whether the job has run for longer than its policy lets it."""
    return job.deadline_at is not None and now > job.deadline_at


def stop_at_deadline(job: Job, now: datetime) -> Stop:
    """Return the request that ends the run of a job that is past its deadline."""
    cause = Cause("deadline_passed", f"The job's deadline of {job.policy.deadline_seconds:,} s has passed.")
    return Stop(StopKind.DEADLINE, cause, now)


def ignores_stop(job: Job, now: datetime) -> bool:
    """Return whether the job was asked to stop so long ago that it will not by itself."""
    return job.stop is not None and now - job.stop.at > MAX_STOP


def may_hold_slot(job: Job | None) -> bool:
    """Return whether a slot in the name of this job is in use, or about to be; None stands for one that is gone."""
    return job is not None and not job.state.is_terminal and job.state is not JobState.AWAITING_UPLOAD


@dataclass(frozen=True)
class Reconciler:
    """Mends one thing at a time and says in a word what it did; nothing if there was nothing to do any more.

    Every write is conditional on what the job was when it was read, so that a job that has moved on is left alone.
    """

    jobs: JobStore
    objects: ObjectStore
    runs: RunStore
    slots: SlotStore
    clock: Clock

    @property
    def admission(self) -> Admission:
        """The one who decides which job starts."""
        return Admission(self.jobs, self.runs, self.slots, self.clock)

    def settle_upload(self, job: Job) -> str:
        """Claim the upload of a job whose window has passed, or expire the job if there is none."""
        upload = self.objects.find(keys.input_key(job.ref))
        if upload is not None:  # its event was lost
            self.admission.claim(job, upload)
            return "claimed"
        cause = Cause("upload_missing", "The file was not uploaded in time. Submit it again.")
        expired = self.jobs.move(job, JobState.EXPIRED, cause=cause).state is JobState.EXPIRED
        return "expired" if expired else ""

    def see_to_run(self, job: Job) -> str:
        """Ask whether the run of a job still lives, and see to its end if it does not."""
        status = self.runs.status(job)
        if status.is_live:
            self._look_again_later(job)
            return ""
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
        """End the run of a job that was asked to stop and did not."""
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
        """Take back the slot of a job that does not run, and start one that was given a slot and not started."""
        job = self._find(member)
        if job is not None and job.state is JobState.QUEUED:
            return "started" if self.admission.begin(member) else ""
        return self.free_slot(member)

    def hold_slot(self, ref: JobRef) -> str:
        """Give a job that runs the slot that it lacks, if it still runs, and take it back if it ends meanwhile."""
        job = self._find(ref)
        if job is None or job.state not in (JobState.RUNNING, JobState.MERGING):
            return ""
        self.slots.hold(ref)
        return "" if self.free_slot(ref) else "held_slot"

    def _look_again_later(self, job: Job) -> None:
        self.jobs.note(job, due_at=self.clock.now() + CHECK_EVERY)

    def _find(self, ref: JobRef) -> Job | None:
        try:
            return self.jobs.get(ref)
        except JobNotFound:
            return None


def lost(status: RunStatus) -> Cause:
    """Return why a job ends whose run Step Functions says to be over."""
    reason = f" with {status.error}" if status.error else ""
    message = f"The run ended as {status.status}{reason} without saying so."
    return Cause("run_lost", message, detail=status.cause or None)
