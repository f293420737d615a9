"""The tables' streams: shards wait for jobs that are to stop, and for providers that changed or are back."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.stages.wake import Change, wake
from lambdas.runtime import logger, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    changes = [Change.of(record["dynamodb"]) for record in event["Records"]]
    woken = wake(changes, waits=store.waits, callbacks=store.callbacks)
    if woken.shards:
        logger.info("shards were woken", shards=woken.shards)
    failed = woken.unfinished
    return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}
