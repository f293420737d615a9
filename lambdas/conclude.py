"""A Catch of the run: record why a shard's workers kept dying, or why the run cannot go on."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import RunTask, ShardTask
from backhaul.stages.conclude import cause_of, conclude_run, conclude_shard
from lambdas.runtime import logger, measure, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    error, cause = event["error"].get("Error") or "", event["error"].get("Cause") or ""
    if "shard" in event:
        task = ShardTask.from_state(event)
        logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run, shard=task.shard.index)
        logger.error("every worker on the shard died", error=error)
        conclude_shard(task, error, cause, jobs=store.jobs, shards=store.shards)
        return {"outcome": "died"}
    return _run(event, error, cause)


def _run(state: dict[str, Any], error: str, cause: str) -> dict[str, Any]:
    task = RunTask.from_state(state)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run)
    job = conclude_run(task, cause_of(error, cause), jobs=store.jobs)
    if job is None:
        logger.info("the job had ended before its run did", error=error)
        return {}
    logger.error("the run ended badly", error=error, state=job.state)
    measure(job.processor, RunsDied=1)
    return {"state": job.state}
