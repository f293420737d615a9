"""Every minute: mend what fell between two stages."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.stages.sweep import sweep
from lambdas.runtime import clock, count_all, logger, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    swept = sweep(
        jobs=store.jobs,
        shards=store.shards,
        objects=store.objects,
        runs=store.runs,
        slots=store.slots,
        clock=clock,
    )
    if swept.mended:
        logger.info("swept", mended=swept.mended)
    count_all(
        StalledShards=swept.stalled_shards,
        JobsPastDeadline=swept.past_deadline,
        Mended=sum(swept.mended.values()),
    )
    return dict(swept.mended)
