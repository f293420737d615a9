"""The intake queue, and the ends of jobs: claim each upload that S3 reports, and start runs when slots are free."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.events import SOURCE
from backhaul.model.job import JobRef
from backhaul.stages.dispatch import dispatch, hand_on, uploads_in
from lambdas.runtime import clock, logger, measure, store

batch = BatchProcessor(
    event_type=EventType.SQS,
    raise_on_entire_batch_failure=False,
    logger=logger,  # type: ignore[arg-type]  # Powertools uses only the methods that a standard logger has
)


def handle(record: SQSRecord) -> None:
    for upload in uploads_in(record.body):
        with logger.append_context_keys(tenant=upload.job.tenant, job_id=upload.job.job_id):
            job = dispatch(upload, jobs=store.jobs, runs=store.runs, slots=store.slots, clock=clock)
            logger.info("upload dispatched", state=job.state, run=job.run)
            sent = int(record.attributes.sent_timestamp) / 1000
            measure(job.processor, UploadsDispatched=1, QueueAge=clock.now().timestamp() - sent)


def hand_over(ended: dict[str, Any]) -> dict[str, Any]:
    ref = JobRef(ended["tenant"], ended["job_id"])
    started = hand_on(ref, jobs=store.jobs, runs=store.runs, slots=store.slots, clock=clock)
    logger.info("slot handed on", tenant=ref.tenant, job_id=ref.job_id, started=started)
    return {"started": started}


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    if event.get("source") == SOURCE:
        return hand_over(event["detail"])
    return dict(process_partial_response(event=event, record_handler=handle, processor=batch, context=context))
