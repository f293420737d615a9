"""Every minute, and after a run ended badly: repair jobs that are stuck between two stages."""

import json
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.task import RunTask
from backhaul.stages.sweep import mend_lost, sweep
from backhaul.store import RunStatus
from lambdas.runtime import clock, count_all, logger, store


def hear_of(detail: dict[str, Any]) -> dict[str, int]:
    state = json.loads(detail["input"])
    # A Map child is an execution too, but its own Catch and the merge deal with its end.
    if "shard" in state:
        return {}
    task = RunTask.from_state(state)
    logger.append_keys(tenant=task.job.tenant, job_id=task.job.job_id, run=task.run)
    status = RunStatus(detail["status"], detail.get("error") or "", detail.get("cause") or "")
    mended = mend_lost(task, status, jobs=store.jobs, runs=store.runs, clock=clock)
    if mended is None:
        logger.info("the job had ended before its run did", status=status.status, error=status.error)
        return {}
    logger.error("the run was lost", status=status.status, error=status.error, mended=mended)
    return {mended: 1}


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    if event.get("source") == "aws.states":
        return hear_of(event["detail"])
    swept = sweep(
        jobs=store.jobs,
        shards=store.shards,
        objects=store.objects,
        runs=store.runs,
        slots=store.slots,
        waits=store.waits,
        breakers=store.breakers,
        callbacks=store.callbacks,
        clock=clock,
    )
    if swept.mended:
        logger.info("swept", mended=swept.mended)
    counts = {
        "StalledShards": swept.stalled_shards,
        "JobsPastDeadline": swept.past_deadline,
        "Mended": sum(swept.mended.values()),
    }
    # CloudWatch charges for each hour in which a metric is written, and the alarms take a missing value for zero.
    if found := {name: count for name, count in counts.items() if count}:
        count_all(**found)
    swept.raise_problems()
    return dict(swept.mended)
