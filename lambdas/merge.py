"""The last state of a run: merge the results and end the job."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import RunTask
from backhaul.plugin.registry import find_processors
from backhaul.stages.merge import merge
from lambdas.runtime import PROCESSORS, clock, logger, measure, store

registry = find_processors(PROCESSORS)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    task = RunTask.from_state(event)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run)
    job = merge(
        task,
        jobs=store.jobs,
        shards=store.shards,
        steps=store.steps,
        objects=store.objects,
        dead_letters=store.dead_letters,
        budgets=store.budgets,
        registry=registry,
        clock=clock,
    )
    logger.info("job ended", state=job.state, cause=job.cause.code if job.cause else None)
    measure(job.processor, **{f"Jobs{job.state.title()}": 1})
    return {"state": job.state}
