"""Every minute: mend what fell between two stages."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.stages.sweep import sweep
from lambdas.runtime import clock, logger, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    mended = dict(sweep(jobs=store.jobs, objects=store.objects, runs=store.runs, clock=clock))
    if mended:
        logger.info("swept", mended=mended)
    return mended
