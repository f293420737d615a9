"""The command `usage`: what calls of providers took and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table

from backhaul.cli.intake import checked_tenant
from backhaul.cli.jobs import Json, Stack
from backhaul.cli.screen import emit_json, plain, plain_table, say, show
from backhaul.client.discovery import connect, operate
from backhaul.model.api import DayUsage
from backhaul.model.cost import ProviderCost
from backhaul.model.money import display, dollars, nanodollars
from backhaul.operations.spending import usage_of

MAX_DAYS = 92

Row = tuple[str, str, ProviderCost]
"""The day, or nothing; the provider; what its calls took."""


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("usage")(usage)


def usage(
    days: Annotated[
        int | None, typer.Option(metavar="N", help="How many days, including today. Default: 30.", min=1, max=MAX_DAYS)
    ] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only the calls of this job, in all its runs.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only calls of this provider.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The calls of this tenant; for operators.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="The calls of all tenants; for operators.")] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Show how many calls of providers you made and what they cost, by day (UTC) and provider.

    Example: `backhaul usage --days 7 --provider openai-small`

    Example: `backhaul usage --tenant TENANT --days 7`
    """
    if tenant is not None and everybody:
        raise typer.BadParameter("Name a tenant or --all, not both.", param_hint="--tenant")
    if job is not None and (everybody or tenant is not None or days is not None):
        raise typer.BadParameter(
            "With --job, leave out --days, --tenant and --all: its usage has no days or tenants.",
            param_hint="--job",
        )
    if job is not None:
        with connect(stack) as client:
            cost = client.job(job).cost
        found = _of_provider(cost.usage if cost else {}, provider)
        rows = [("", name, each) for name, each in found.items()]
        document: dict[str, object] = {"job_id": job, "usage": found}
    else:
        last = datetime.now(UTC).date()
        first = last - timedelta(days=(days or 30) - 1)
        by_day = _of_days(first, last, checked_tenant(tenant), everybody=everybody, stack=stack)
        told = [DayUsage(each.day, of) for each in by_day if (of := _of_provider(each.usage, provider))]
        rows = [(each.day.isoformat(), name, of) for each in told for name, of in each.usage.items()]
        document = ({"tenant": tenant} if tenant else {}) | {"from": first, "to": last, "days": told}
    if json:
        emit_json(document | {"total": total_of(each for _, _, each in rows)})
    elif rows:
        show(usage_table(rows))
    else:
        say(f"No calls of providers were made{f' by {plain(tenant)}' if tenant else ''}.")
    return 0


def usage_table(rows: list[Row]) -> Table:
    """Return a line for each row and one for the total; without days there is no column for them."""
    dated = any(day for day, _, _ in rows)
    numbers = ("CALLS", "TOKENS IN", "TOKENS OUT", "COST", "SAVED")
    table = plain_table(*(["DAY"] if dated else []), "PROVIDER", *numbers)
    for column in table.columns[-len(numbers) :]:
        column.justify = "right"
    shown = ""
    for day, provider, each in [*rows, ("", "total", total_of(each for _, _, each in rows))]:
        first = [day if day != shown else ""] if dated else []
        shown = day
        counts = (f"{count:,}" for count in (each.calls, each.input_tokens, each.output_tokens))
        table.add_row(*first, plain(provider), *counts, *map(_told, (each.spent, each.saved)))
    return table


def _told(amount: str) -> str:
    return display(nanodollars(amount))


def total_of(costs: Iterable[ProviderCost]) -> ProviderCost:
    """Return what these come to together, exactly."""
    found = list(costs)
    return ProviderCost(
        sum(each.calls for each in found),
        sum(each.input_tokens for each in found),
        sum(each.output_tokens for each in found),
        dollars(sum(nanodollars(each.spent) for each in found)),
        dollars(sum(nanodollars(each.saved) for each in found)),
    )


def _of_days(
    first: date, last: date, tenant: str | None, *, everybody: bool, stack: str | None
) -> tuple[DayUsage, ...]:
    if everybody or tenant:
        return usage_of(operate(stack), tenant, first, last)
    with connect(stack) as client:
        return client.usage(first, last)


def _of_provider(usage: Mapping[str, ProviderCost], provider: str | None) -> dict[str, ProviderCost]:
    return {name: each for name, each in usage.items() if provider in (None, name)}
