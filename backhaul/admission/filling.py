"""Giving free slots to waiting jobs: a bounded look at the queue for each event, and a pass over all of it."""

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
"""Entries of the queue, and of one tenant's, that one event looks at; it starts no more jobs than that."""
MAX_MOVED = 500
"""Entries that one pass over the whole queue moves between its parts; the next pass moves the rest."""


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


class Filling:
    """One look at the slots and at the queue.

    Of each tenant that may start a job, the first waiting job is READY; every other is HELD_BACK. So whoever looks at
    the first few READY jobs sees the first few tenants, however many jobs each of them has waiting. Who starts a job
    of a tenant, or frees a slot of it, makes the tenant's next job READY. What a crash leaves undone here, or an index
    that is a moment late, `fill_all` puts right.
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
        """Start the jobs that may start since a slot of this tenant came free, or since its newest job was queued.

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
        """Go through the whole queue, page after page, until it ends or `is_late` says so.

        Starts every job that may start, and puts every entry into the part of the queue to which it belongs.
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
        """Return the tenant's own waiting jobs of which one may start, the newest among them."""
        mine = [QueueEntry(newest.ref, newest.turn, newest.queue == READY)] if newest and newest.turn else []
        if self._is_shut(tenant) or (mine and mine[0].is_ready):
            return mine
        found = {entry.job: entry for entry in [*self._jobs.queued_of(tenant, MAX_LOOKED_AT), *mine]}
        return list(found.values())

    def _following(self, entry: QueueEntry, waiting: Iterable[QueueEntry]) -> tuple[QueueEntry, ...]:
        """Return the next job of the tenant, unless it may start none or one of its jobs is looked at anyway."""
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
        """Take a slot for a job, or find that it has one; false if there is none for it."""
        ref, turn = entry.job, QueuePlace.from_key(entry.turn)
        if ref.tenant in self._refused:
            return False
        reached = max(self._served.get(turn.priority, 0), turn.number)
        if not self._store.take(ref, turn.priority, reached):
            self._refused.add(ref.tenant)  # others were quicker
            self._look()
            return False
        self._served[turn.priority] = reached
        self._count(ref, 1)
        return True

    def _start(self, entry: QueueEntry) -> None:
        """Start a job that has a slot; one that cannot be started keeps no other from it."""
        ref = entry.job
        try:
            if self._begin(ref):
                self.started += 1
            else:
                self._count(ref, -1)
        except UnreadableRecord as problem:  # whoever can read it starts it; until then it needs no slot
            self._store.drop(ref)
            self._count(ref, -1)
            self._problems[ref] = problem
        except Exception as problem:  # told at the end, with the job it is about
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
        """Whether the tenant may start nothing, however many slots are free."""
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
