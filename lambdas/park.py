"""A Map child's state while its shard waits: keep the token by which the wait can be ended."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import ParkTask
from backhaul.stages.park import park
from lambdas.runtime import clock, logger, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    task = ParkTask.from_state(event)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run, shard=task.shard)
    woken = park(
        task,
        jobs=store.jobs,
        providers=store.providers,
        breakers=store.breakers,
        waits=store.waits,
        callbacks=store.callbacks,
        clock=clock,
    )
    logger.info("shard waits", seconds=task.parking.seconds, provider=task.parking.provider, woken=woken)
