"""Admission: turning an upload into a queued job, and queued jobs into runs as slots come free."""

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
"""How often the sweep looks at a queued job, and asks whether the run of a job still lives."""
MAX_FILL_SECONDS = 20.0
"""How long one pass over the whole queue may take: more than a million entries."""


@dataclass(frozen=True)
class Admission:
    """The one who decides which job starts."""

    jobs: JobStore
    runs: RunStore
    slots: SlotStore
    clock: Clock

    def claim(self, job: Job, upload: ObjectRef) -> Job:
        """Pin the uploaded version to its job, whoever else tries the same; return the job as it then stands."""
        if upload.size != job.declared_size:
            said = f"{job.declared_size:,} bytes were declared and {upload.size:,} arrived"
            problem = Cause("size_mismatch", f"The upload is not the declared file: {said}. Submit it again.")
            return self.jobs.move(job, JobState.FAILED, input=upload, cause=problem)
        return self.jobs.move(job, JobState.QUEUED, input=upload, run=job.run + 1, **self.place(job))

    def place(self, job: Job) -> dict[str, Any]:
        """Return what puts a job into the queue: behind higher priorities, and in turn with other tenants.

        It is READY if it is the first of its tenant's waiting jobs and the tenant may start one.
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
        """Start waiting jobs, in their order, as long as there are slots; returns how many were started.

        It reads the whole queue. A job that cannot be started keeps no other from it: its exception goes into
        `problems`, or into an `ExceptionGroup` raised at the end.
        """
        failed: Problems = {} if problems is None else problems
        filling, began = self._filling(failed), self.clock.monotonic()
        filling.fill_all(lambda: self.clock.monotonic() - began > MAX_FILL_SECONDS)
        if failed and problems is None:
            raise ExceptionGroup("some jobs cannot be started", list(failed.values()))
        return filling.started

    def fill_for(self, tenant: str, newest: Job | None = None, problems: Problems | None = None) -> int:
        """Do what follows from the end of one of the tenant's jobs, or from its newest one's joining the queue.

        Returns how many jobs were started, whoever's. It makes a bounded number of calls, however many jobs wait. The
        newest may not show in the indexes yet. `problems` as in `fill`.
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
        """Whether another job of the tenant waits that starts before this turn."""
        # An entry of the index whose job has a slot is one that was started a moment ago.
        first = (each for each in self.jobs.queued_of(tenant, MAX_LOOKED_AT) if each.job not in slots.members)
        return any(each.turn < turn for each in first)

    def start(self, job: Job) -> None:
        """Start the run of a job that is RUNNING; starting it again changes nothing."""
        if job.state is JobState.RUNNING:
            self.runs.start(job)

    def begin(self, ref: JobRef) -> bool:
        """Start the run of a job that has a slot; whoever else tries the same, there is one run.

        The job is RUNNING before its run exists, so that workers never meet a queued job. A crash between
        the two is mended by whoever calls this next, because starting the same run twice changes nothing.
        """
        now = self.clock.now()
        try:
            job = self.jobs.get(ref)
        except JobNotFound:
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
