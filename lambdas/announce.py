"""The tables' streams: publish an event for each change of a job's state or a provider's breaker."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.stages.announce import Change, announce
from lambdas.runtime import logger, settings, store


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    changes = [Change.of(record["dynamodb"]) for record in event["Records"]]
    failed = announce(changes, bus=store.bus, bucket=settings.data_bucket)
    if failed is not None:
        logger.warning("the bus refused an event; the stream is read again from there", sequence_number=failed)
    return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}
