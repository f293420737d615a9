"""One examination's view of a deployment; it reads everything once, and only when a check needs it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property

from backhaul.admission.missing_shards import planned_shards
from backhaul.admission.reconciler import Reconciler
from backhaul.model.errors import JobNotFound, UnreadableRecord
from backhaul.model.job import Job, JobRef, JobState
from backhaul.model.progress import ShardRecord
from backhaul.model.shard import Shard
from backhaul.operations.connection import Operations
from backhaul.operations.doctor.finding import SurveyScope
from backhaul.store import RunStatus, Slots, Store
from backhaul.store.job_index import Problems

RECENT = timedelta(days=1)
"""The doctor examines ended jobs that were created no longer ago than this."""
SWEPT_AFTER = timedelta(minutes=2)
"""The sweep runs every minute: a problem that it would repair and that is older than this, it has missed."""


class Survey:
    """One look at a deployment; with `only`, at these of its jobs."""

    def __init__(self, operations: Operations, scope: SurveyScope, only: frozenset[JobRef] | None = None) -> None:
        self.operations = operations
        self._scope = scope
        self._only = only
        self.now: datetime = operations.clock.now()
        self.skipped: list[str] = []
        """The checks that could not be made, and why."""
        self._statuses: dict[JobRef, RunStatus] = {}
        self._records: dict[JobRef, tuple[ShardRecord, ...]] = {}

    @property
    def store(self) -> Store:
        """The deployment's stores."""
        return self.operations.store

    @cached_property
    def reconciler(self) -> Reconciler:
        """The reconciler: it makes the same repairs as the sweep."""
        store = self.store
        return Reconciler(store.jobs, store.objects, store.runs, store.slots, self.operations.clock)

    @cached_property
    def slots(self) -> Slots:
        """The slots, with the jobs that hold them."""
        return self.store.slots.get()

    @cached_property
    def queued(self) -> tuple[JobRef, ...]:
        """The jobs in the index of queued jobs, in their order."""
        return tuple(entry.job for entry in self.store.jobs.queued())

    @property
    def jobs(self) -> dict[JobRef, Job | None]:
        """Every examined job as last written; None for a job that is gone although something points to it."""
        return self._read[0]

    @property
    def unreadable(self) -> Problems:
        """The examined jobs whose records this version cannot read, and why; they are not in `jobs`."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[dict[JobRef, Job | None], Problems]:
        found: dict[JobRef, Job | None] = {}
        unreadable: Problems = {}
        for ref in sorted(self._only if self._only is not None else self._refs()):
            try:
                found[ref] = self._find(ref)
            except UnreadableRecord as problem:
                unreadable[ref] = problem
        return found, unreadable

    def within(self, *states: JobState) -> Iterator[Job]:
        """Yield the examined jobs that are in one of these states."""
        return (job for job in self.jobs.values() if job is not None and job.state in states)

    def ended(self) -> Iterator[Job]:
        """Yield the ended jobs among the examined ones whose files S3 must still have."""
        for job in self.jobs.values():
            expired = job and job.expires_at is not None and job.expires_at <= self.now.timestamp()
            if job and job.state.is_terminal and not expired:
                yield job

    def lives(self, job: Job) -> bool:
        """Return whether the execution of the job's run, or of its salvage, is at work."""
        return self.status(job).is_live or self.store.runs.status(job, salvage=True).is_live

    def status(self, job: Job) -> RunStatus:
        """Return the status of the execution of the job's run."""
        if job.ref not in self._statuses:
            self._statuses[job.ref] = self.store.runs.status(job)
        return self._statuses[job.ref]

    def records(self, job: Job) -> tuple[ShardRecord, ...]:
        """Return the job's shard records."""
        if job.ref not in self._records:
            self._records[job.ref] = tuple(self.store.shards.all(job.ref))
        return self._records[job.ref]

    def plan(self, job: Job) -> tuple[Shard, ...]:
        """Return all shards of the job; empty if it has no plan."""
        return tuple(planned_shards(job, self.store.objects))

    def _refs(self) -> set[JobRef]:
        unread: Problems = {}
        refs = set(self.slots.members) | set(self.queued)
        refs |= {job.ref for state in JobState if not state.is_terminal for job in self.store.jobs.open(state, unread)}
        refs |= {self._scope.job} if self._scope.job else set()
        tenants = {ref.tenant for ref in refs} | set(self._scope.tenants) | set(self.slots.paused_tenants)
        refs = refs.union(*(self._recent(tenant, unread) for tenant in tenants))
        return refs | unread.keys()

    def _recent(self, tenant: str, unread: Problems) -> Iterator[JobRef]:
        for job in self.store.jobs.newest(tenant, unread):
            if self.now - job.created_at > RECENT and not self._scope.all_ended:
                return
            yield job.ref

    def _find(self, ref: JobRef) -> Job | None:
        try:
            return self.store.jobs.get(ref)
        except JobNotFound:
            return None
