"""What one examination sees of a deployment; everything is read once, and only when a check asks for it."""

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
"""Jobs that have ended are looked at if they were created no longer ago than this."""
SWEPT_AFTER = timedelta(minutes=2)
"""The sweep comes every minute: what it would mend and is older than this, it has not mended."""


class Survey:
    """One look at the deployment; with `only`, at these jobs of it."""

    def __init__(self, operations: Operations, scope: SurveyScope, only: frozenset[JobRef] | None = None) -> None:
        self.operations = operations
        self._scope = scope
        self._only = only
        self.now: datetime = operations.clock.now()
        self.skipped: list[str] = []
        """What could not be looked at, and why."""
        self._statuses: dict[JobRef, RunStatus] = {}
        self._records: dict[JobRef, tuple[ShardRecord, ...]] = {}

    @property
    def store(self) -> Store:
        """What the deployment stores."""
        return self.operations.store

    @cached_property
    def reconciler(self) -> Reconciler:
        """What mends that which the sweep would."""
        store = self.store
        return Reconciler(store.jobs, store.objects, store.runs, store.slots, self.operations.clock)

    @cached_property
    def slots(self) -> Slots:
        """Who holds a slot."""
        return self.store.slots.get()

    @cached_property
    def queued(self) -> tuple[JobRef, ...]:
        """The jobs in the index of queued jobs, in their order."""
        return tuple(entry.job for entry in self.store.jobs.queued())

    @property
    def jobs(self) -> dict[JobRef, Job | None]:
        """Every job in sight as last written, and None for one that something points to and that is gone."""
        return self._read[0]

    @property
    def unreadable(self) -> Problems:
        """The jobs in sight whose records this version cannot read, and why; they are not among `jobs`."""
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
        """Yield the jobs in sight that are in one of these states."""
        return (job for job in self.jobs.values() if job is not None and job.state in states)

    def ended(self) -> Iterator[Job]:
        """Yield the jobs in sight that have ended and whose files S3 may not have removed yet."""
        for job in self.jobs.values():
            expired = job and job.expires_at is not None and job.expires_at <= self.now.timestamp()
            if job and job.state.is_terminal and not expired:
                yield job

    def lives(self, job: Job) -> bool:
        """Return whether the job's run, or the one that salvages it, is at work."""
        return self.status(job).is_live or self.store.runs.status(job, salvage=True).is_live

    def status(self, job: Job) -> RunStatus:
        """Return what became of the job's run."""
        if job.ref not in self._statuses:
            self._statuses[job.ref] = self.store.runs.status(job)
        return self._statuses[job.ref]

    def records(self, job: Job) -> tuple[ShardRecord, ...]:
        """Return the job's shard records."""
        if job.ref not in self._records:
            self._records[job.ref] = tuple(self.store.shards.all(job.ref))
        return self._records[job.ref]

    def plan(self, job: Job) -> tuple[Shard, ...]:
        """Return all shards of the job; none if it has no plan."""
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
