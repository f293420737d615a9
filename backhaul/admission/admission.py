"""Admission: it turns an upload into a queued job, and queued jobs into runs when slots are free."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backhaul.admission.filling import MAX_LOOKED_AT, Filling, QueuePlace
from backhaul.model.clock import Clock
from backhaul.model.errors import JobNotFound
from backhaul.model.job import Cause, Job, JobRef, JobState, ObjectRef
from backhaul.store import JobStore, RunStore, Slots, SlotStore
from backhaul.store.job_index import HELD_BACK, READY, Problems

CHECK_EVERY = timedelta(minutes=5)
"""How often the sweep looks at a queued job, and asks Step Functions whether a job's run has ended."""
MAX_FILL_SECONDS = 20.0
"""Seconds that one pass over the whole queue may take, which is enough for more than a million entries."""


@dataclass(frozen=True)
class Admission:
    """Decides which job starts when."""

    jobs: JobStore
    runs: RunStore
    slots: SlotStore
    clock: Clock

    def claim(self, job: Job, upload: ObjectRef) -> Job:
        """Pin the uploaded version to its job and queue the job; return it as it then stands.

        If another caller pins an upload at the same time, the first write counts. An upload of another size than was
        declared ends the job as FAILED.
        """
        if upload.size != job.declared_size:
            said = f"{job.declared_size:,} bytes were declared and {upload.size:,} arrived"
            problem = Cause("size_mismatch", f"The upload is not the declared file: {said}. Submit it again.")
            return self.jobs.move(job, JobState.FAILED, input=upload, cause=problem)
        return self.jobs.move(job, JobState.QUEUED, input=upload, run=job.run + 1, **self.place(job))

    def place(self, job: Job) -> dict[str, Any]:
        """Return the fields that put a job into the queue: after higher priorities, and in turn with other tenants.

        The job is READY if it is the first of its tenant's waiting jobs and the tenant may start one.
        """
        tenant, priority, slots = job.ref.tenant, job.policy.priority, self.slots.get()
        turn = QueuePlace(priority, self.slots.next_turn(tenant, priority, slots), job.ref.job_id).to_key()
        is_ready = not self.slots.is_full_for(tenant, slots) and not self._is_behind(tenant, turn, slots)
        return {
            "queue": READY if is_ready else HELD_BACK,
            "turn": turn,
            "due_at": self.clock.now() + CHECK_EVERY,
        }

    def fill(self, problems: Problems | None = None) -> int:
        """Start waiting jobs in their order while there are free slots; returns how many were started.

        It reads the whole queue. A job that cannot be started does not stop the others: its exception goes into
        `problems`, or without `problems` into an `ExceptionGroup` that is raised at the end.
        """
        failed: Problems = {} if problems is None else problems
        filling, began = self._filling(failed), self.clock.monotonic()
        filling.fill_all(lambda: self.clock.monotonic() - began > MAX_FILL_SECONDS)
        if failed and problems is None:
            raise ExceptionGroup("some jobs cannot be started", list(failed.values()))
        return filling.started

    def fill_for(self, tenant: str, newest: Job | None = None, problems: Problems | None = None) -> int:
        """Start the jobs that may start after one of the tenant's jobs has ended, or after `newest` was queued.

        Returns how many jobs of all tenants were started. It makes a bounded number of calls, however many jobs wait.
        `newest` is given because the indexes may not show it yet. `problems` as in `fill`.
        """
        failed: Problems = {} if problems is None else problems
        filling = self._filling(failed)
        filling.fill(tenant, newest)
        if failed and problems is None:
            raise ExceptionGroup("some jobs cannot be started", list(failed.values()))
        return filling.started

    def _filling(self, problems: Problems) -> Filling:
        return Filling(self.jobs, self.slots, self.begin, problems)

    def _is_behind(self, tenant: str, turn: str, slots: Slots) -> bool:
        """Return whether another waiting job of the tenant has an earlier turn."""
        # The index is a moment late: a job in it that holds a slot has just been started.
        first = (each for each in self.jobs.queued_of(tenant, MAX_LOOKED_AT) if each.job not in slots.members)
        return any(each.turn < turn for each in first)

    def start(self, job: Job) -> None:
        """Start the run of a job that is RUNNING; a repeat changes nothing."""
        if job.state is JobState.RUNNING:
            self.runs.start(job)

    def begin(self, ref: JobRef) -> bool:
        """Start the run of a job that has a slot, and return whether it runs; several callers start one run.

        The job becomes RUNNING before its run exists, so that workers never meet a queued job. After a crash between
        the two, the next caller starts the run, because starting the same run twice changes nothing.
        """
        now = self.clock.now()
        try:
            job = self.jobs.get(ref)
        except JobNotFound:  # the job was deleted, so it needs no slot
            self.slots.drop(ref)
            return False
        if job.state is JobState.QUEUED:
            deadline = now + timedelta(seconds=job.policy.deadline_seconds)
            job = self.jobs.move(job, JobState.RUNNING, started_at=now, due_at=now + CHECK_EVERY, deadline_at=deadline)
        if job.state.is_terminal or job.state is JobState.AWAITING_UPLOAD:  # cancelled meanwhile
            self.slots.drop(ref)
            return False
        self.start(job)
        return True
