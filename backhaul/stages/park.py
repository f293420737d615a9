"""Let a shard wait so that it can be woken: store its token, and look whether what it waits for has changed by now."""

from __future__ import annotations

from datetime import timedelta

from backhaul.admission.waker import Waker, has_closed, is_unwanted
from backhaul.model.clock import Clock
from backhaul.model.outage import outages_as_unavailable
from backhaul.model.parking import ParkedShard
from backhaul.model.task import ParkTask
from backhaul.providers import InvalidProvider, UnknownProvider
from backhaul.store import BreakerStore, Callbacks, JobStore, WaitStore
from backhaul.store.providers import ProviderStore


@outages_as_unavailable
def park(
    task: ParkTask,
    *,
    jobs: JobStore,
    providers: ProviderStore,
    breakers: BreakerStore,
    waits: WaitStore,
    callbacks: Callbacks,
    clock: Clock,
) -> bool:
    """Store the shard's wait; returns whether it was ended at once, because there is nothing left to wait for.

    Whoever changes what a shard waits for wakes those that are stored. So the wait is stored first, and only then
    compared with what may have changed since the worker left.
    """
    parking = task.parking
    until = clock.now() + timedelta(seconds=parking.seconds)
    parked = ParkedShard(task.job, task.run, task.shard, task.token, until, parking.provider, parking.epoch)
    waits.put(parked)
    if not _is_over(task, parked, jobs, providers, breakers):
        return False
    return Waker(waits, callbacks).wake(parked)


def _is_over(
    task: ParkTask, parked: ParkedShard, jobs: JobStore, providers: ProviderStore, breakers: BreakerStore
) -> bool:
    if is_unwanted(jobs.get(task.job), task.run):
        return True
    if not parked.provider:
        return False
    if has_closed(breakers.get(parked.provider, consistent=True), parked):
        return True
    try:
        return providers.find(parked.provider).provider.fingerprint() != task.parking.settings
    except (UnknownProvider, InvalidProvider):
        return True
