"""The first state of a run: cut the input into shards."""

from dataclasses import asdict
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import RunTask
from backhaul.plugin.registry import find_processors
from backhaul.stages.plan import plan
from lambdas.runtime import PROCESSORS, logger, store

registry = find_processors(PROCESSORS)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    task = RunTask.from_state(event)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run)
    planned = plan(task, jobs=store.jobs, shards=store.shards, objects=store.objects, registry=registry)
    logger.info("planned", outcome=planned.outcome, shards=planned.shards, chunks=planned.chunks)
    return asdict(planned)
