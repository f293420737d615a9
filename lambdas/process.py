"""The worker: process one shard of a run until it is done or the function's time is nearly up."""

from functools import lru_cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import ShardTask
from backhaul.paid.channels import Channels
from backhaul.plugin.registry import Registry, find_processors
from backhaul.stages.process import process
from backhaul.worker.workspace import workspace
from lambdas.runtime import PROCESSORS, clock, logger, measure, settings, store


@lru_cache(maxsize=1)
def channels() -> Channels:
    """Return this process's state about providers, which is kept from one invocation to the next."""
    return Channels(
        store.providers,
        store.secrets,
        store.models,
        store.limits,
        store.breakers,
        clock,
        local_providers=settings.local_providers,
    )


@lru_cache(maxsize=1)
def registry_of(tenant: str) -> Registry:  # the cache's key
    """Load the processors again when the tenant changes, so that no tenant finds what another left in a module."""
    return find_processors(PROCESSORS)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    task = ShardTask.from_state(event)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run, shard=task.shard.index)
    with workspace():
        outcome = process(
            task,
            store=store,
            channels=channels(),
            registry=registry_of(task.job.tenant),
            settings=settings,
            clock=clock,
            remaining=lambda: context.get_remaining_time_in_millis() / 1000,
        )
    done = outcome.work
    logger.info(
        "shard left",
        outcome=outcome.outcome,
        seconds=outcome.seconds,
        waits_for=outcome.waits_for,
        attempt=done.attempt,
        chunks=done.chunks,
        records=done.records,
        calls=done.calls,
        slept=done.slept,
        longest_sleep=done.longest_sleep,
    )
    measure(
        done.processor,
        Chunks=done.chunks,
        ChunksFailed=done.chunks_failed,
        Records=done.records,
        Bytes=done.bytes,
        Retries=int(done.is_retry),
        Rework=done.rework,
        Calls=done.calls,
    )
    return outcome.to_state()
