"""The commands `intake`, `pause` and `resume`: who runs and who waits, and letting nothing start for a while."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

import typer

from backhaul.cli.dlq import Stack
from backhaul.cli.jobs import Json
from backhaul.cli.screen import OPERATORS, age, emit_json, plain, plain_table, say, show
from backhaul.client.discovery import operate
from backhaul.operations import intake as operations
from backhaul.operations.intake import Intake
from backhaul.store import Pause

Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant; default: all tenants.")]

_TENANT = re.compile(r"[A-Za-z0-9]{1,64}")


def intake(json: Json = False, stack: Stack = None) -> int:
    """Show how many jobs run, how many wait, and what is paused, by tenant."""
    found = operations.look(operate(stack))
    if json:
        emit_json(found)
        return 0
    show("\n".join(_lines(found)))
    if found.queued:
        table = plain_table("TENANT", "PRIORITY", "QUEUED", "FIRST JOB", "SINCE")
        for each in found.queued:
            head = (plain(each.head), age(each.head_since))
            table.add_row(plain(each.tenant), str(each.priority), f"{each.jobs:,}", *head)
        show(table)
    return 0


def pause(
    reason: Annotated[str, typer.Option("--reason", help="Why; the tenants whose jobs wait see this text.")],
    tenant: Tenant = None,
    stack: Stack = None,
) -> int:
    """Let no further job start until `resume`; running jobs continue, and new uploads are accepted and queued."""
    if not reason.strip():
        raise typer.BadParameter("Say why: the tenants whose jobs wait see this text.", param_hint="--reason")
    done = operations.pause(operate(stack), checked_tenant(tenant), reason.strip())
    say(f"{_whose(tenant)} is {'paused' if done.changed else 'paused already, for this reason'}.")
    return 0


def resume(
    tenant: Tenant = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail.")] = "",
    stack: Stack = None,
) -> int:
    """Let jobs start again, and start as many as there are free slots."""
    done = operations.resume(operate(stack), checked_tenant(tenant), reason.strip())
    said = "is resumed" if done.changed else "stays paused" if done.paused_anew else "was not paused"
    say(f"{_whose(tenant)} {said}; {done.started:,} {'job' if done.started == 1 else 'jobs'} started.")
    if done.unstarted:
        jobs = "1 job" if done.unstarted == 1 else f"{done.unstarted:,} jobs"
        say(f"{jobs} could not be started; the sweep tries again every minute. To see why: backhaul doctor")
    if done.paused_anew:
        say(f"Another operator has just paused the intake again: {plain(done.paused_anew.reason)}.")
    if done.still_paused:
        say(f"The intake of all tenants is still paused: {plain(done.still_paused.reason)}. Try: backhaul resume")
    if done.paused_tenants:
        say(f"Still paused, each on its own: {plain(', '.join(done.paused_tenants))}.")
    return 0


def add_to(app: typer.Typer) -> None:
    """Add these commands to an app."""
    for command in (intake, pause, resume):
        app.command(rich_help_panel=OPERATORS)(command)


def checked_tenant(tenant: str | None) -> str | None:
    """Return a tenant as given; raises `BadParameter` for what is no ID of one."""
    if tenant is not None and not _TENANT.fullmatch(tenant):
        raise typer.BadParameter(
            f"{tenant!r} is not a tenant's ID: such an ID has 1 to 64 letters and digits.", param_hint="--tenant"
        )
    return tenant


def _whose(tenant: str | None) -> str:
    return f"The intake of {tenant}" if tenant else "The intake"


def _lines(found: Intake) -> Iterator[str]:
    yield f"{found.running:,} of {found.most:,} slots in use, at most {found.most_per_tenant:,} by one tenant"
    for tenant, count in found.running_by_tenant.items():
        yield f"  {plain(tenant)} {count:,}"
    if found.paused:
        yield f"paused: {_pause(found.paused)}"
    for tenant, paused in found.paused_tenants.items():
        yield f"{plain(tenant)} paused: {_pause(paused)}"
    if not found.queued:
        yield "no job is queued"


def _pause(paused: Pause) -> str:
    return f"{plain(paused.reason)} (by {plain(paused.by)}, {age(paused.at)} ago)"
