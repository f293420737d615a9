"""POST /jobs: create a job, and answer with the form that uploads its file."""

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.api import JobView, SubmittedView, UploadForm
from backhaul.plugin.registry import find_processors
from backhaul.stages.submit import Submission, submit
from lambdas.http import answer, body_of, caller, resolver
from lambdas.runtime import PROCESSORS, clock, logger, measure, settings, store

app = resolver()
registry = find_processors(PROCESSORS)


@app.post("/jobs")
def create_job() -> Response[str]:
    made = submit(
        Submission.from_json(body_of(app), app.current_event.headers.get("idempotency-key")),
        caller(app),
        registry=registry,
        jobs=store.jobs,
        objects=store.objects,
        settings=settings,
        clock=clock,
    )
    if made.is_new:
        logger.info("job created", job_id=made.job.ref.job_id, processor=made.job.processor)
        measure(made.job.processor, JobsSubmitted=1)
    return answer(202, SubmittedView(JobView.of(made.job), UploadForm(made.upload.url, made.upload.fields)))


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
