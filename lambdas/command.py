"""POST /jobs/{id}/cancel, /jobs/{id}/redrive and /jobs/{id}/budget: a tenant's commands on its jobs."""

from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.api import JobView, RaisedView, RedrivenView
from backhaul.model.errors import InvalidRequest
from backhaul.model.job import JobRef
from backhaul.stages.command import cancel, raise_budget, redrive
from lambdas.http import answer, body_of, caller, resolver
from lambdas.runtime import clock, logger, measure, store

app = resolver()

T = TypeVar("T")


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: str | None = None


class RedriveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    only_failed: bool = False


class BudgetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    max_cost: Decimal
    reason: str | None = None


@app.post("/jobs/<job_id>/cancel")
def cancel_job(job_id: str) -> Response[str]:
    ref, body = JobRef(caller(app), job_id), read(CancelBody)
    job = cancel(ref, body.reason, jobs=store.jobs, slots=store.slots, clock=clock)
    logger.info("job cancelled", job_id=job_id, state=job.state)
    measure(job.processor, JobsCancelRequested=1)
    return answer(202, JobView.of(job))


@app.post("/jobs/<job_id>/redrive")
def redrive_job(job_id: str) -> Response[str]:
    ref, body = JobRef(caller(app), job_id), read(RedriveBody)
    done = redrive(
        ref,
        only_failed=body.only_failed,
        jobs=store.jobs,
        shards=store.shards,
        objects=store.objects,
        slots=store.slots,
        runs=store.runs,
        clock=clock,
    )
    logger.info("job redriven", job_id=job_id, run=done.job.run, started=done.started, chunks=done.chunks)
    measure(done.job.processor, JobsRedriven=int(done.started))
    return answer(202 if done.started else 200, RedrivenView(JobView.of(done.job), done.started, done.chunks))


@app.post("/jobs/<job_id>/budget")
def raise_budget_of_job(job_id: str) -> Response[str]:
    ref, body = JobRef(caller(app), job_id), read(BudgetBody)
    done = raise_budget(
        ref,
        body.max_cost,
        body.reason,
        jobs=store.jobs,
        shards=store.shards,
        objects=store.objects,
        slots=store.slots,
        runs=store.runs,
        budgets=store.budgets,
        clock=clock,
    )
    logger.info("budget raised", job_id=job_id, run=done.job.run, started=done.started, chunks=done.chunks)
    measure(done.job.processor, JobsRedriven=int(done.started))
    view = JobView.of(done.job, cost=done.cost)
    return answer(202 if done.started else 200, RaisedView(view, done.started, done.chunks, done.exceeded))


def read(kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body_of(app) or "{}", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"The request body is not what this route takes: {error}.") from None


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
