"""Admission: turning an upload into a queued job, and queued jobs into runs as slots come free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backhaul.clock import Clock
from backhaul.errors import JobNotFound
from backhaul.job import Cause, Job, JobRef, JobState, ObjectRef
from backhaul.store import JobStore, RunStore, SlotStore
from backhaul.store.job_index import QUEUED

CHECK_EVERY = timedelta(minutes=5)
"""How often the sweep looks at a queued job, and asks whether the run of a job still lives."""
LOOKED_AT_MOST = 1000
"""Waiting jobs that one call looks through for one that may start: tenants at their limit are passed over."""


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
        turn = self.slots.next_turn(job.ref.tenant)
        order = f"{9 - job.policy.priority}#{turn:010d}#{job.ref.job_id}"
        return {"queue": QUEUED, "turn": order, "due_at": self.clock.now() + CHECK_EVERY}

    def fill(self, newest: Job | None = None) -> int:
        """Start waiting jobs, in their order, as long as there are slots; returns how many were started.

        `newest` was queued a moment ago, and may not show in the queue yet.
        """
        slots = self.slots.get()
        if self.slots.is_full(slots) and not (newest and newest.ref in slots.members):
            return 0
        started = 0
        refused: set[str] = set()
        for ref, turn in self._waiting(newest):
            if ref.tenant in refused or slots.pause_of(ref.tenant):
                continue
            if self.slots.take(ref, max(slots.turn, _number(turn))):
                started += self.begin(ref)
                continue
            refused.add(ref.tenant)
            slots = self.slots.get()
            if self.slots.is_full(slots):
                break
        return started

    def start(self, job: Job) -> None:
        """Start the run of a job that is RUNNING; starting it again changes nothing."""
        if job.state is JobState.RUNNING:
            self.runs.start(job)

    def _waiting(self, newest: Job | None) -> Iterator[tuple[JobRef, str]]:
        mine = (newest.ref, newest.turn) if newest and newest.state is JobState.QUEUED and newest.turn else None
        for looked_at, (ref, turn) in enumerate(self.jobs.queued()):
            if looked_at == LOOKED_AT_MOST:
                return
            if mine and mine[1] < turn:
                yield mine
                mine = None
            if mine and mine[0] == ref:
                mine = None
            yield ref, turn
        if mine:
            yield mine

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


def _number(turn: str) -> int:
    return int(turn.split("#")[1])
