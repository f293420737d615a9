"""Giving free slots to waiting jobs: each event reads a bounded part of the queue, and the sweep reads all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from backhaul.model.errors import UnreadableRecord
from backhaul.model.job import Job, JobRef
from backhaul.store import JobStore, SlotStore
from backhaul.store.job_index import READY, Problems, QueueEntry

MAX_LOOKED_AT = 25
"""Entries of the `READY` queue, and of one tenant's queue, that one event reads. It starts no more jobs than that."""
MAX_MOVED = 500
"""Entries that one pass over the whole queue moves between `READY` and `HELD_BACK`; the next pass moves the rest."""


@dataclass(frozen=True)
class QueuePlace:
    """A job's place in the queue: higher priorities come first, then earlier turns, then older jobs."""

    priority: int
    number: int
    job_id: str

    def to_key(self) -> str:
        """Return the key by which the queue is sorted."""
        return f"{9 - self.priority}#{self.number:010d}#{self.job_id}"

    @classmethod
    def from_key(cls, key: str) -> QueuePlace:
        """Return the place that `to_key` wrote."""
        rank, number, job_id = key.split("#")
        return cls(9 - int(rank), int(number), job_id)


class Filling:
    """One pass that reads the slots and the queue, and starts jobs.

    The first waiting job of each tenant that may start one is READY; every other job is HELD_BACK. So the first few
    READY jobs are those of the first few tenants, however many jobs each tenant has waiting. A pass that starts a
    job of a tenant, or that follows the end of one, makes the tenant's next job READY. `fill_all` repairs what a
    crash or a late index leaves undone.
    """

    def __init__(self, jobs: JobStore, slots: SlotStore, begin: Callable[[JobRef], bool], problems: Problems) -> None:
        self.started = 0
        self._jobs = jobs
        self._store = slots
        self._begin = begin
        self._problems = problems
        self._refused: set[str] = set()
        self._moved = 0
        self._look()
        self._served = dict(self._slots.served)

    def fill(self, tenant: str, newest: Job | None = None) -> None:
        """Start the jobs that may start after this tenant freed a slot, or after its job `newest` was queued.

        It makes a bounded number of calls, however many jobs and tenants wait.
        """
        own = self._own(tenant, newest)
        found = () if self._is_full else self._jobs.ready(MAX_LOOKED_AT)
        waiting = [(entry.turn, entry.job, entry) for entry in {each.job: each for each in [*found, *own]}.values()]
        heapify(waiting)
        unstarted: list[QueueEntry] = []
        for _ in range(MAX_LOOKED_AT):
            if not waiting or (self._is_full and waiting[0][1] not in self._members):
                break
            *_, entry = heappop(waiting)
            if not self._may_start(entry):
                self._move(entry, ready=False)
            elif not self._take(entry):
                unstarted.append(entry)
            else:
                self._start(entry)
                for each in self._following(entry, [other for *_, other in waiting]):
                    heappush(waiting, (each.turn, each.job, each))
        self._make_first_ready(sorted([*unstarted, *(entry for *_, entry in waiting)], key=lambda each: each.turn))

    def fill_all(self, is_late: Callable[[], bool]) -> None:
        """Read the whole queue, until it ends or `is_late` returns true.

        Starts every job that may start, and moves every entry into the part of the queue to which it belongs.
        """
        if self._slots.paused:
            return
        unstarted: set[str] = set()
        for entry in self._jobs.queued():
            tenant = entry.job.tenant
            if is_late():
                return
            if not self._may_start(entry):
                self._move(entry, ready=False)
            elif not self._is_full and self._take(entry):
                self._start(entry)
            elif tenant not in unstarted:
                unstarted.add(tenant)
                self._move(entry, ready=not self._is_shut(tenant))

    def _own(self, tenant: str, newest: Job | None) -> list[QueueEntry]:
        """Return the tenant's first waiting jobs and its newest one, of which one may start.

        If the tenant may start none, or the newest is READY already, the tenant's queue is not read.
        """
        mine = [QueueEntry(newest.ref, newest.turn, newest.queue == READY)] if newest and newest.turn else []
        if self._is_shut(tenant) or (mine and mine[0].is_ready):
            return mine
        found = {entry.job: entry for entry in [*self._jobs.queued_of(tenant, MAX_LOOKED_AT), *mine]}
        return list(found.values())

    def _following(self, entry: QueueEntry, waiting: Iterable[QueueEntry]) -> tuple[QueueEntry, ...]:
        """Return the tenant's next waiting job; none if the tenant may start none or a job of it is in `waiting`."""
        tenant = entry.job.tenant
        if self._is_shut(tenant) or any(each.job.tenant == tenant for each in waiting):
            return ()
        return self._jobs.queued_of(tenant, 1, after=entry.turn)

    def _make_first_ready(self, unstarted: Iterable[QueueEntry]) -> None:
        seen: set[str] = set()
        for entry in unstarted:
            if entry.job.tenant not in seen and not self._is_shut(entry.job.tenant):
                self._move(entry, ready=True)
            seen.add(entry.job.tenant)

    def _take(self, entry: QueueEntry) -> bool:
        """Take a slot for a job and return true, also if it has one already; false if there is none for it."""
        ref, turn = entry.job, QueuePlace.from_key(entry.turn)
        # One refusal is enough: the tenant's other jobs would be refused too, and each try costs a write.
        if ref.tenant in self._refused:
            return False
        reached = max(self._served.get(turn.priority, 0), turn.number)
        if not self._store.take(ref, turn.priority, reached):
            self._refused.add(ref.tenant)  # another caller has taken the slot: read the slots again
            self._look()
            return False
        self._served[turn.priority] = reached
        self._count(ref, 1)
        return True

    def _start(self, entry: QueueEntry) -> None:
        """Start a job that has a slot; an exception is noted in `problems`, so that the other jobs still start."""
        ref = entry.job
        try:
            if self._begin(ref):
                self.started += 1
            else:
                self._count(ref, -1)
        except UnreadableRecord as problem:  # a version that can read it starts it; until then it needs no slot
            self._store.drop(ref)
            self._count(ref, -1)
            self._problems[ref] = problem
        except Exception as problem:  # `fill` raises or returns it at the end, with the name of its job
            problem.add_note(f"job {ref.job_id} of tenant {ref.tenant}")
            self._problems[ref] = problem

    def _move(self, entry: QueueEntry, *, ready: bool) -> None:
        if entry.is_ready != ready and self._moved < MAX_MOVED:
            self._moved += 1
            self._jobs.move_in_queue(entry, ready=ready)

    @property
    def _is_full(self) -> bool:
        return len(self._members) >= self._store.most or self._slots.paused is not None

    def _is_shut(self, tenant: str) -> bool:
        """Return whether the tenant may start no job, however many slots are free."""
        return self._slots.pause_of(tenant) is not None or self._held[tenant] >= self._store.most_per_tenant

    def _may_start(self, entry: QueueEntry) -> bool:
        return entry.job in self._members or not self._is_shut(entry.job.tenant)

    def _look(self) -> None:
        self._slots = self._store.get()
        self._members = set(self._slots.members)
        self._held = Counter(member.tenant for member in self._members)

    def _count(self, ref: JobRef, slots: int) -> None:
        if (ref in self._members) == (slots > 0):
            return
        self._held[ref.tenant] += slots
        (self._members.add if slots > 0 else self._members.discard)(ref)
