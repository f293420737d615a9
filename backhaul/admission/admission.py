"""Admission: turning an upload into a queued job, and queued jobs into runs as slots come free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backhaul.model.clock import Clock
from backhaul.model.errors import JobNotFound, UnreadableRecord
from backhaul.model.job import Cause, Job, JobRef, JobState, ObjectRef
from backhaul.store import JobStore, RunStore, SlotStore
from backhaul.store.job_index import QUEUED, Problems

CHECK_EVERY = timedelta(minutes=5)
"""How often the sweep looks at a queued job, and asks whether the run of a job still lives."""


@dataclass(frozen=True)
class QueuePlace:
    """A job's place in the queue: behind higher priorities, then by turn, then by age."""

    priority: int
    number: int
    job_id: str

    def to_key(self) -> str:
        """Return the key by which the queue is sorted."""
        return f"{9 - self.priority}#{self.number:010d}#{self.job_id}"

    @classmethod
    def from_key(cls, key: str) -> QueuePlace:
        """Return the turn that a key of the queue says."""
        rank, number, job_id = key.split("#")
        return cls(9 - int(rank), int(number), job_id)


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
        """Return what puts a job into the queue: behind higher priorities, and in turn with other tenants."""
        priority = job.policy.priority
        turn = QueuePlace(priority, self.slots.next_turn(job.ref.tenant, priority), job.ref.job_id)
        return {"queue": QUEUED, "turn": turn.to_key(), "due_at": self.clock.now() + CHECK_EVERY}

    def fill(self, newest: Job | None = None, problems: Problems | None = None) -> int:
        """Start waiting jobs, in their order, as long as there are slots; returns how many were started.

        `newest` was queued a moment ago, and may not show in the queue yet. A job that cannot be started keeps no
        other from it: its exception goes into `problems`, or into an `ExceptionGroup` raised at the end.
        """
        slots = self.slots.get()
        if self.slots.is_full(slots) and not (newest and newest.ref in slots.members):
            return 0
        started, failed = 0, {} if problems is None else problems
        refused: set[str] = set()
        served = dict(slots.served)
        for ref, turn in self._waiting(newest):
            if ref.tenant in refused or slots.pause_of(ref.tenant):
                continue
            reached = max(served.get(turn.priority, 0), turn.number)
            if self.slots.take(ref, turn.priority, reached):
                served[turn.priority] = reached
                try:
                    started += self.begin(ref)
                except UnreadableRecord as problem:  # whoever can read it starts it; until then it needs no slot
                    self.slots.drop(ref)
                    failed[ref] = problem
                except Exception as problem:  # told at the end, with the job it is about
                    problem.add_note(f"job {ref.job_id} of tenant {ref.tenant}")
                    failed[ref] = problem
                continue
            refused.add(ref.tenant)
            slots = self.slots.get()
            if self.slots.is_full(slots):
                break
        if failed and problems is None:
            raise ExceptionGroup("some jobs cannot be started", list(failed.values()))
        return started

    def start(self, job: Job) -> None:
        """Start the run of a job that is RUNNING; starting it again changes nothing."""
        if job.state is JobState.RUNNING:
            self.runs.start(job)

    def _waiting(self, newest: Job | None) -> Iterator[tuple[JobRef, QueuePlace]]:
        """Yield who waits, with their turns, and the newest in its place."""
        mine = newest.turn if newest and newest.state is JobState.QUEUED else None
        for ref, turn in self.jobs.queued():
            if newest and mine and mine < turn:
                yield newest.ref, QueuePlace.from_key(mine)
                mine = None
            if newest and ref == newest.ref:
                mine = None
            yield ref, QueuePlace.from_key(turn)
        if newest and mine:
            yield newest.ref, QueuePlace.from_key(mine)

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
