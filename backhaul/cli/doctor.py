"""The command `doctor`: what is wrong with a deployment, as a table, and repairing it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from backhaul.cli.dlq import Stack
from backhaul.cli.exits import Exit
from backhaul.cli.jobs import Json
from backhaul.cli.screen import age, console, emit_json, plain, plain_table, say, show
from backhaul.client.discovery import operate
from backhaul.model import keys
from backhaul.model.job import JobRef
from backhaul.operations.doctor import Examination, Finding, RepairResult, SurveyScope, examine, treat

WIDE = 160
"""Columns of a terminal in which a finding fits on one line."""


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired, then check again.")] = False,
    job: Annotated[
        str | None, typer.Option("--job", help="Check this job too, however long ago it ended; needs --tenant.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Check this tenant's recent jobs too, even if none of them is open.")
    ] = None,
    all_ended: Annotated[
        bool, typer.Option("--all-ended", help="Check all jobs that have ended, not only those of the last day.")
    ] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Check a deployment for problems, and say how each can be repaired.

    Exits with 0 if there is no problem, or if all of them were repaired, and with 1 otherwise.
    """
    operations, scope = operate(stack), _scope(job, tenant, all_ended)
    with console.status("Checking"):
        before = examine(operations, scope)
    repairs: tuple[RepairResult, ...] = ()
    left = before
    if repair and before.mendable:
        with console.status("Repairing"):
            treatment = treat(operations, scope, before)
        repairs, left = treatment.repairs, treatment.left
    if json:
        emit_json(_document(left, repairs))
    else:
        _tell(left, repairs, repair=repair)
    return Exit.FAILED if left.findings else Exit.SUCCEEDED


def _scope(job: str | None, tenant: str | None, all_ended: bool) -> SurveyScope:
    if job is not None and tenant is None:
        raise typer.BadParameter(
            "Name the job's tenant with --tenant: the doctor cannot find a job by its ID alone.", param_hint="--job"
        )
    if job is not None and not keys.is_job_id(job):
        raise typer.BadParameter(f"{job!r} is not the ID of a job.", param_hint="--job")
    ref = JobRef(tenant, job) if job and tenant else None
    return SurveyScope((tenant,) if tenant else (), ref, all_ended)


def _tell(left: Examination, repairs: Sequence[RepairResult], *, repair: bool) -> None:
    if repairs:
        show(_repairs_table(repairs))
    if left.findings:
        show(_listing(left.findings))
    for note in left.skipped:
        say(f"Skipped: {plain(note)}.")
    say(summary(left, repairs, repair=repair))


def summary(left: Examination, repairs: Sequence[RepairResult], *, repair: bool) -> str:
    """Return in a sentence how the deployment stands."""
    done = sum(each.succeeded for each in repairs)
    said = f"{left.checks - len(left.skipped)} checks, "
    said += f"{done} repaired, " if repairs else ""
    wrong, can = len(left.findings), len(left.mendable)
    if not wrong:
        return f"{said}no problem {'left' if repairs else 'found'}."
    said += f"{wrong} {_problems(wrong)} {'left' if repairs else 'found'}"
    if not can:
        return f"{said}; a person must repair {'it' if wrong == 1 else 'them'}."
    return f"{said}, {can} can be repaired{'' if repair else ' with: backhaul doctor --repair'}."


def _problems(count: int) -> str:
    return "problem" if count == 1 else "problems"


def _listing(findings: Sequence[Finding]) -> Table | str:
    stdout = Console(file=sys.stdout)
    if stdout.is_terminal and stdout.width < WIDE:
        return _narrow(findings)
    table = plain_table("CHECK", "PROBLEM", "TENANT/JOB", "SINCE", "REPAIR")
    for each in findings:
        table.add_row(each.check, plain(each.what), plain(_job(each)), _since(each), plain(each.mends_by))
    for column in (0, 2, 3):
        table.columns[column].no_wrap = True
    return table


def _narrow(findings: Sequence[Finding]) -> str:
    """Return three lines for each finding: a table would cut what tells one job from another."""
    lines = []
    for each in findings:
        since = f"  since {_since(each)}" if each.since else ""
        lines.append(f"[bold]{each.check}[/bold]  {plain(_job(each))}{since}")
        lines += [f"  {plain(each.what)}", f"  [dim]repair: {plain(each.mends_by)}[/dim]"]
    return "\n".join(lines)


def _repairs_table(repairs: Sequence[RepairResult]) -> Table:
    table = plain_table("CHECK", "TENANT/JOB", "OUTCOME", "SAYS")
    for each in repairs:
        outcome = "[green]repaired[/green]" if each.succeeded else "[red]failed[/red]"
        table.add_row(each.finding.check, plain(_job(each.finding)), outcome, plain(each.said))
    for column in (0, 1, 2):
        table.columns[column].no_wrap = True
    return table


def _job(found: Finding) -> str:
    return f"{found.ref.tenant}/{found.ref.job_id}" if found.ref else "-"


def _since(found: Finding) -> str:
    return age(found.since) if found.since else "-"


def _document(left: Examination, repairs: Sequence[RepairResult]) -> dict[str, Any]:
    return {
        "healthy": not left.findings,
        "checks": left.checks - len(left.skipped),
        "findings": [_value(each) for each in left.findings],
        "mended": [_value(each.finding) | {"mended": each.succeeded, "said": each.said} for each in repairs],
        "skipped": left.skipped,
    }


def _value(found: Finding) -> dict[str, Any]:
    return {
        "check": found.check,
        "what": found.what,
        "tenant": found.ref.tenant if found.ref else None,
        "job_id": found.ref.job_id if found.ref else None,
        "since": found.since,
        "mends_by": found.mends_by,
        "mendable": found.repair is not None,
    }
