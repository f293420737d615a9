"""POST /estimate: estimate a job's calls, cost and time without its file."""

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.plugin.registry import find_processors
from backhaul.stages.estimate import EstimateRequest, estimate
from lambdas.http import answer, body_of, caller, resolver
from lambdas.runtime import PROCESSORS, clock, logger, settings, store

app = resolver()
registry = find_processors(PROCESSORS)


@app.post("/estimate")
def estimate_job() -> Response[str]:
    caller(app)
    request = EstimateRequest.from_json(body_of(app))
    made = estimate(request, registry=registry, providers=store.providers, settings=settings, clock=clock)
    return answer(200, made)


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
