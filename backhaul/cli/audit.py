"""The command `audit`: what operators did to the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from backhaul.cli.dlq import Stack
from backhaul.cli.intake import checked_tenant
from backhaul.cli.jobs import Json
from backhaul.cli.length import seconds_of
from backhaul.cli.screen import emit_json, plain, plain_table, say, show
from backhaul.client.discovery import operate
from backhaul.operations.audit import Wanted, trail
from backhaul.store.audit import AuditRecord


def audit(
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only acts on this job.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only acts on this tenant, or on a job of it.")] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="Only this action, or those that begin with these words, such as dlq."),
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only acts of the last 90m, 2h or 7d, or since 2026-11-30 (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many acts at most.", min=1)] = 50,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """List what operators did, newest first: when, who, what, why, and what came of it.

    Example: `backhaul audit --action dlq --since 7d`

    Example: `backhaul audit --job JOB --json`
    """
    operations = operate(stack)
    moment = None if since is None else _moment(since, operations.clock.now())
    found = trail(operations, Wanted(job, checked_tenant(tenant), action, moment), limit)
    if json:
        emit_json({"records": [as_value(each) for each in found.records], "complete": found.complete})
        return 0
    if found.records:
        show(_listing(found.records))
    else:
        say("The audit trail has no record that matches.")
    if not found.complete:
        say(f"These are the newest {limit:,} records; there are older ones. To see more, raise --limit.")
    return 0


def as_value(record: AuditRecord) -> dict[str, Any]:
    """Return a record for programs, with the body that a discard removed."""
    tenant, _, job = (record.job or "").partition("/")
    names = ("at", "who", "action", "what", "why", "outcome", "body")
    return {name: getattr(record, name) for name in names} | {"tenant": tenant or None, "job_id": job or None}


def _listing(records: tuple[AuditRecord, ...]) -> Table:
    table = plain_table("WHEN (UTC)", "WHO", "ACTION", "ABOUT", "WHY", "OUTCOME")
    for each in records:
        moment = each.at.astimezone(UTC) if each.at else None
        cells = (
            f"{moment:%Y-%m-%d %H:%M:%S}" if moment else "-",
            each.who.rpartition(":")[2],  # of an ARN what tells callers of one account apart
            each.action,
            each.job or _scalars(each.what),
            each.why,
            each.outcome,
        )
        table.add_row(*(plain(" ".join(cell.split())) for cell in cells))
    for column in (0, 2):
        table.columns[column].no_wrap = True
    return table


def _scalars(what: Mapping[str, Any]) -> str:
    """Return what an act was done to, without its lists: `--json` has them."""
    return ", ".join(f"{name} {value}" for name, value in what.items() if isinstance(value, str | int))


def _moment(text: str, now: datetime) -> datetime:
    seconds = seconds_of(text)
    try:
        if seconds is not None:
            return now - timedelta(seconds=seconds)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        said = f"{text!r} is not a time. Write how long ago, as 90m, 2h or 7d, or a day: 2026-11-30."
        raise typer.BadParameter(said, param_hint="--since") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
