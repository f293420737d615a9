"""Commands about budgets: what a job may cost and has cost, and letting it, a tenant or everybody spend more."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from backhaul.cli.describe import cost_line
from backhaul.cli.exits import Exit, exit_of
from backhaul.cli.intake import checked_tenant
from backhaul.cli.jobs import Json, Stack, follow, show_job
from backhaul.cli.policy import dollars_of
from backhaul.cli.screen import emit_json, plain, say, show, styled
from backhaul.cli.usage import usage_table
from backhaul.client.client import Backhaul
from backhaul.client.discovery import connect, operate
from backhaul.model.api import JobView, RaisedView
from backhaul.model.errors import InvalidRequest
from backhaul.model.job import BUDGET_EXHAUSTED, JobState
from backhaul.model.money import display, dollars, nanodollars
from backhaul.operations.spending import budget_today, raise_today

app = typer.Typer(no_args_is_help=True, help="Budgets: what a job, or a day, may cost and has cost.")


@app.command("show")
def show_budget(
    job_id: Annotated[str | None, typer.Argument(metavar="JOB", help="The job's ID.", show_default=False)] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Instead of a job: what this tenant has spent today (UTC); for operators.")
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Instead of a job: what all tenants have spent today (UTC); for operators.")
    ] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Show what a job may cost, what it has cost in all of its runs, and by which providers.

    With --tenant or --all: the same of today's (UTC) budget of a tenant, or of all tenants together.

    Example: `backhaul budget show JOB`

    Example: `backhaul budget show --tenant TENANT`
    """
    if (job_id is not None) + (tenant is not None) + everybody != 1:
        raise typer.BadParameter("Name exactly one: a job, a tenant with --tenant, or --all.", param_hint="JOB")
    if job_id is None:
        return _show_today(checked_tenant(tenant), json=json, stack=stack)
    with connect(stack) as client:
        job = client.job(job_id)
    if json:
        emit_json({"job_id": job.job_id, "state": job.state, "cost": job.cost})
        return 0
    said = cost_line(job.cost) if job.cost else "nothing spent, and no cap"
    show(f"[bold]{plain(job.job_id)}[/bold]  {styled(job.state)}  {said}")
    if job.cost and job.cost.usage:
        show(usage_table([("", name, each) for name, each in job.cost.usage.items()]))
    return 0


def _show_today(tenant: str | None, *, json: bool, stack: str | None) -> int:
    found = budget_today(operate(stack), tenant)
    if json:
        emit_json(found)
        return 0
    rest = "no cap" if found.left is None else f"{display(nanodollars(found.left))} left"
    show(f"[bold]{_whose(tenant)}[/bold]  {found.day} (UTC)  {cost_line(found.cost)}; {rest}")
    if found.cap_by:
        show(f"cap set by {plain(found.cap_by)}: {plain(found.cap_why or '')}")
    if found.cost.usage:
        show(usage_table([("", name, each) for name, each in found.cost.usage.items()]))
    return 0


@app.command("raise")
def raise_budget(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[JOB] AMOUNT",
            help="The job, and what it may cost in all, in dollars: 5 or 5.00. +5 adds to what it may cost now.",
            show_default=False,
        ),
    ],
    tenant: Annotated[
        str | None, typer.Option(help="Instead of a job: what this tenant may spend today (UTC); for operators.")
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Instead of a job: what all tenants may spend today (UTC); for operators.")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; required for a day's budget.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Let a job cost more; AMOUNT is the new total. A job that is PAUSED because its budget was spent goes on.

    A day's budget (--tenant, --all) is for today (UTC). Each job that it has paused goes on with
    `backhaul redrive JOB`.

    Example: `backhaul budget raise JOB 5.00 --reason "worth it"`

    Example: `backhaul budget raise --tenant TENANT 200 --reason "end of the quarter"`
    """
    if tenant is not None or everybody:
        return _raise_today(words, tenant, everybody=everybody, reason=(reason or "").strip(), json=json, stack=stack)
    if len(words) != 2:
        raise typer.BadParameter("Name the job and the amount: backhaul budget raise JOB 5.00", param_hint="AMOUNT")
    job_id, amount = words
    with connect(stack) as client:
        total = _more(client, job_id, amount[1:]) if amount.startswith("+") else dollars_of(amount, "AMOUNT")
        done = client.raise_budget(job_id, total, reason)
        say(_raised(done) + (f" Follow it with: backhaul watch {plain(job_id)}" if done.started and not wait else ""))
        if done.started and wait:
            done = replace(done, job=follow(client, job_id))
    if json:
        emit_json(done)
    elif done.started and wait:
        show_job(done.job, json=False)
    return exit_of(done.job.state) if done.started and wait else Exit.SUCCEEDED


def _more(client: Backhaul, job_id: str, text: str) -> str:
    added = nanodollars(dollars_of(text, "AMOUNT"))
    cost = client.job(job_id).cost
    if cost is None or cost.max_cost is None:
        raise InvalidRequest(f"Job {job_id} has no cap to which an amount can be added. Name the total, without the +.")
    return dollars_of(dollars(nanodollars(cost.max_cost) + added), "AMOUNT")


def _raised(done: RaisedView) -> str:
    job = done.job
    name = f"Job [bold]{plain(job.job_id)}[/bold]"
    said = f"{name}: {cost_line(job.cost)}." if job.cost else f"{name}: nothing spent."
    if done.started:
        chunks = "1 chunk" if done.chunks == 1 else f"{done.chunks:,} chunks"
        return f"{said} The job goes on with run {job.run}{f', for {chunks}' if done.chunks else ''}."
    return f"{said}{_why_not(done, job)}"


def _why_not(done: RaisedView, job: JobView) -> str:
    if done.exceeded:
        return " The job has already spent that much, so it makes no further call."
    if job.stopping is not None and job.stopping.code == BUDGET_EXHAUSTED:
        return f" The job is being PAUSED all the same. Once it is, go on with: backhaul redrive {plain(job.job_id)}"
    if job.state is JobState.PAUSED and job.cause is not None:
        return f" The job stays PAUSED: {plain(job.cause.message)}"
    if job.state.is_terminal:
        return f" The job is {job.state}. To process what is missing: backhaul redrive {plain(job.job_id)}"
    return ""


def _raise_today(
    words: list[str], tenant: str | None, *, everybody: bool, reason: str, json: bool, stack: str | None
) -> int:
    if tenant is not None and everybody:
        raise typer.BadParameter("Name a tenant or --all, not both.", param_hint="--tenant")
    if len(words) != 1 or words[0].startswith("+"):
        raise typer.BadParameter("Name the day's new total, and no job: 200 or 200.00", param_hint="AMOUNT")
    if not reason:
        raise typer.BadParameter("Say why, for the audit trail.", param_hint="--reason")
    checked = checked_tenant(tenant)
    amount = nanodollars(dollars_of(words[0], "AMOUNT"))
    cost = raise_today(operate(stack), checked, amount, reason)
    if json:
        emit_json({"tenant": tenant, "cost": cost})
    elif cost is not None:
        say(f"{_whose(tenant)}, today (UTC): {cost_line(cost)}. Each paused job goes on with: backhaul redrive JOB")
    return Exit.SUCCEEDED


def _whose(tenant: str | None) -> str:
    return plain(tenant) if tenant else "The deployment"
