"""GET /jobs, /jobs/{id}, /jobs/{id}/result, /jobs/{id}/receipt, /usage and /processors."""

from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from backhaul.model.api import JobPage, JobView, UsageView
from backhaul.model.job import JobRef
from backhaul.plugin.registry import find_processors
from backhaul.stages.inquire import job_receipt, job_result, job_status, list_jobs, usage_by_day
from lambdas.http import answer, caller, resolver, whole_number
from lambdas.runtime import PROCESSORS, clock, logger, settings, store

app = resolver()
registry = find_processors(PROCESSORS)


@app.get("/jobs")
def jobs() -> Response[str]:
    query = app.current_event.get_query_string_value
    page = list_jobs(
        caller(app),
        state=query("state"),
        after=query("after"),
        limit=whole_number(query("limit"), "limit", 20),
        jobs=store.jobs,
    )
    return answer(200, JobPage(tuple(JobView.of(job) for job in page.jobs), page.next_job_id))


@app.get("/jobs/<job_id>")
def job(job_id: str) -> Response[str]:
    ref = JobRef(caller(app), job_id)
    found = job_status(ref, jobs=store.jobs, shards=store.shards, slots=store.slots, budgets=store.budgets, clock=clock)
    return answer(200, JobView.of(found.job, found.stalled_shards, found.waiting_for, found.cost))


@app.get("/jobs/<job_id>/result")
def result(job_id: str) -> Response[str]:
    ref = JobRef(caller(app), job_id)
    return answer(200, job_result(ref, run=run_wanted(), jobs=store.jobs, objects=store.objects, settings=settings))


@app.get("/jobs/<job_id>/receipt")
def receipt(job_id: str) -> Response[str]:
    ref = JobRef(caller(app), job_id)
    return answer(200, job_receipt(ref, run=run_wanted(), jobs=store.jobs, objects=store.objects, settings=settings))


def run_wanted() -> int | None:
    text = app.current_event.get_query_string_value("run")
    return None if text is None else whole_number(text, "run", 0)


@app.get("/usage")
def usage() -> Response[str]:
    query = app.current_event.get_query_string_value
    days = usage_by_day(caller(app), first=query("from"), last=query("to"), budgets=store.budgets, clock=clock)
    return answer(200, UsageView(days))


@app.get("/processors")
def processors() -> Response[str]:
    caller(app)
    return answer(200, {"processors": [registry.describe(name) for name in registry.names()]})


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    return app.resolve(event, context)
