"""Handle one shard: claim it, skip what is done, run its chunks, and commit them in groups."""

from __future__ import annotations

from collections.abc import Callable

from backhaul.admission.reconciler import is_past_deadline, stop_at_deadline
from backhaul.model.clock import Clock
from backhaul.model.job import Job, JobState
from backhaul.model.outage import outages_as_unavailable
from backhaul.model.settings import Settings
from backhaul.model.task import ShardTask
from backhaul.model.waits import OVERTAKEN_SECONDS
from backhaul.paid.channels import Channels
from backhaul.plugin.registry import Registry
from backhaul.store import Store
from backhaul.worker.attempt import Attempt
from backhaul.worker.outcome import Outcome, Work


@outages_as_unavailable
def process(
    task: ShardTask,
    *,
    store: Store,
    channels: Channels,
    registry: Registry,
    settings: Settings,
    clock: Clock,
    remaining: Callable[[], float],
) -> Outcome:
    """Work on the shard until it is finished, `remaining()` seconds run out, or the job is to stop.

    A store's outage costs what was not committed, and no chunk is blamed for it. A worker that another has overtaken,
    such as a second delivery of one call, waits for that one's end. Raises `StoreUnavailable` when the shard cannot
    even be claimed, and `Superseded` when a later run has it.
    """
    job = store.jobs.get(task.job)
    if _is_wanted(job, task) and is_past_deadline(job, clock.now()):  # the sweep would say so within a minute
        job = store.jobs.request_stop(job, stop_at_deadline(job, clock.now()))
    if job.input is None or not _is_wanted(job, task):
        return Outcome("done", Work(job.processor))
    if task.overtaken and store.shards.get(task.job, task.shard.index).is_alive(clock.now()):
        return Outcome("wait", Work(job.processor, task.left), OVERTAKEN_SECONDS, overtaken=True)
    attempt = Attempt.open(
        task,
        job,
        job.input,
        store=store,
        channels=channels,
        registry=registry,
        settings=settings,
        clock=clock,
        remaining=remaining,
    )
    if attempt.is_settled():
        return Outcome("done", Work(job.processor, attempt.at_start.attempt))
    try:
        return attempt.run()
    except Exception as error:
        return attempt.handle_error(error)


def _is_wanted(job: Job, task: ShardTask) -> bool:
    return job.state is JobState.RUNNING and job.run == task.run and job.stop is None
