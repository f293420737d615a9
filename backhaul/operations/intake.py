"""The intake: which jobs run and wait, what is paused, and the acts that pause and resume it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from backhaul.admission.admission import Admission
from backhaul.model.job import Job, JobState
from backhaul.operations.connection import Operations
from backhaul.store import Pause, Slots
from backhaul.store.audit import AuditRecord
from backhaul.store.job_index import Problems


@dataclass(frozen=True)
class Waiting:
    """The queued jobs of one tenant and priority."""

    tenant: str
    priority: int
    jobs: int
    head: str
    """The ID of the job among them that starts first."""
    head_since: datetime


@dataclass(frozen=True)
class Intake:
    """The state of the intake."""

    running: int
    most: int
    most_per_tenant: int
    running_by_tenant: Mapping[str, int]
    queued: tuple[Waiting, ...]
    """The queued jobs, in the order in which the heads of their groups start."""
    paused: Pause | None
    paused_tenants: Mapping[str, Pause]


@dataclass(frozen=True)
class Switched:
    """The result of pausing or resuming the intake."""

    changed: bool
    started: int = 0
    """How many jobs started because of it."""
    unstarted: int = 0
    """How many jobs could not be started; the sweep tries again."""
    still_paused: Pause | None = None
    """The pause of all tenants, which still keeps the resumed tenant's jobs waiting."""
    paused_anew: Pause | None = None
    """A pause that another operator made at the same moment; it stays."""
    paused_tenants: tuple[str, ...] = ()
    """Tenants with pauses of their own, which stay after the pause of all tenants has ended."""


def look(operations: Operations) -> Intake:
    """Return the present state of the intake."""
    store = operations.store
    slots = store.slots.get()
    return Intake(
        running=len(slots.members),
        most=store.slots.most,
        most_per_tenant=store.slots.most_per_tenant,
        running_by_tenant=dict(sorted(Counter(ref.tenant for ref in slots.members).items())),
        queued=_waiting(list(store.jobs.open(JobState.QUEUED, problems={}))),  # the doctor names the others
        paused=slots.paused,
        paused_tenants=dict(sorted(slots.paused_tenants.items())),
    )


def pause(operations: Operations, tenant: str | None, reason: str) -> Switched:
    """Let no job of the tenant start, or of any tenant if it is None.

    Running jobs go on, and uploads still arrive; their jobs are queued. A pause for the same reason stays as it is.
    """
    store = operations.store
    slots = store.slots.get()
    before = _pause_of(slots, tenant)
    if before is not None and before.reason == reason:
        return Switched(changed=False)
    begun = store.audit.begin(_record("pause", operations, tenant, reason))
    store.slots.pause(tenant, reason, operations.who)
    store.audit.close(begun, "paused")
    return Switched(changed=True)


def resume(operations: Operations, tenant: str | None, reason: str) -> Switched:
    """End the pause of the tenant, or of all tenants if it is None, and start the queued jobs that may start.

    The end of the pause of all tenants leaves the tenants' own pauses in force.
    """
    store = operations.store
    slots = store.slots.get()
    before, ended = _pause_of(slots, tenant), False
    if before:
        begun = store.audit.begin(_record("resume", operations, tenant, reason))
        ended = store.slots.resume(tenant, before) or _pause_of(store.slots.get(), tenant) is None
        store.audit.close(begun, "resumed" if ended else "paused again by another operator")
    # Also without a pause: a killed command may have ended it before it started any job.
    failed: Problems = {}
    started = Admission(store.jobs, store.runs, store.slots, operations.clock).fill(problems=failed)
    after = store.slots.get()
    return Switched(
        ended,
        started,
        len(failed),
        still_paused=after.paused if tenant else None,
        paused_anew=_pause_of(after, tenant),
        paused_tenants=() if tenant else tuple(sorted(after.paused_tenants)),
    )


def _pause_of(slots: Slots, tenant: str | None) -> Pause | None:
    return slots.paused_tenants.get(tenant) if tenant else slots.paused


def _record(action: str, operations: Operations, tenant: str | None, reason: str) -> AuditRecord:
    return AuditRecord(action=action, who=operations.who, why=reason, what={"tenant": tenant} if tenant else {})


def _waiting(jobs: list[Job]) -> tuple[Waiting, ...]:
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in sorted(jobs, key=lambda job: (job.turn is None, job.turn or "", job.ref)):
        groups.setdefault((job.ref.tenant, job.policy.priority), []).append(job)
    return tuple(
        Waiting(tenant, priority, len(group), group[0].ref.job_id, group[0].updated_at)
        for (tenant, priority), group in groups.items()
    )
