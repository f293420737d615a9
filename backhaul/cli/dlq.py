"""Commands about dead letters: list, show, redrive, discard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from backhaul.cli import dead_letters as shown
from backhaul.cli.exits import Exit
from backhaul.cli.jobs import Json
from backhaul.cli.screen import console, emit_json, say, show
from backhaul.client.discovery import operate
from backhaul.operations.acting import Act, ActStatus, DeadLetterCommand, Discard, GroupResult, Pace
from backhaul.operations.connection import Operations
from backhaul.operations.contents import Queue
from backhaul.operations.dead_letters import DeadLetter, Found, Wanted, find, short_ids
from backhaul.operations.holding import ACTING_SECONDS, LOOKING_SECONDS, Held
from backhaul.operations.reasons import DeadLetterReason
from backhaul.operations.redriving import redrive_of

app = typer.Typer(
    no_args_is_help=True, help="Dead letters: look at messages that could not be handled, and redrive or discard them."
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="Dead letters, by ID as listed or by dead letter ID.", show_default=False),
]
OnlyQueue = Annotated[
    Queue | None, typer.Option("--queue", metavar="QUEUE", help=f"Only dead letters of this queue: {', '.join(Queue)}.")
]
OnlyReason = Annotated[
    DeadLetterReason | None,
    typer.Option(
        "--reason", metavar="REASON", help=f"Only dead letters with this reason: {', '.join(DeadLetterReason)}."
    ),
]
OnlyJob = Annotated[str | None, typer.Option("--job", help="Only dead letters about this job.")]
OnlyTenant = Annotated[str | None, typer.Option("--tenant", help="Only dead letters about this tenant's jobs.")]
Limit = Annotated[int | None, typer.Option(help="How many dead letters at most.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
Rate = Annotated[
    float | None, typer.Option(metavar="PER_SECOND", help="The most redrives or discards a second.", min=0.001)
]
Why = Annotated[str, typer.Option(help="The reason, for the audit trail; required without --dry-run.")]
Stack = Annotated[
    str | None,
    typer.Option(
        "--stack", envvar="BACKHAUL_STACK", help="CloudFormation stack to operate; without it the local cloud."
    ),
]


@app.command("list")
def list_dead_letters(
    queue: OnlyQueue = None,
    reason: OnlyReason = None,
    job: OnlyJob = None,
    tenant: OnlyTenant = None,
    limit: Annotated[int, typer.Option(help="How many dead letters at most.", min=1)] = 100,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """List the dead letters, each once however many copies there are."""
    operations = operate(stack)
    found = _look(operations, _wanted([], queue, reason, job, tenant, limit))
    if json:
        emit_json(
            {
                "dead_letters": [shown.as_value(dead_letter) for dead_letter in found.dead_letters],
                "complete": found.complete,
            }
        )
    elif found.dead_letters:
        show(shown.listing(found.dead_letters))
    _tell_of(found)
    return 0


@app.command("show")
def show_dead_letter(
    dead_letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="ID as listed, or dead letter ID.", show_default=False)
    ],
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Show one dead letter in full: its reason, its history and its body."""
    operations = operate(stack)
    found = _look(operations, Wanted(ids=(dead_letter_id,)))
    found.check()
    (dead_letter,) = found.dead_letters
    if json:
        emit_json(shown.as_value(dead_letter) | {"body": dead_letter.oldest.body})
    else:
        show(shown.in_full(dead_letter))
    return 0


@app.command("redrive")
def redrive_dead_letters(
    ids: Ids = None,
    queue: OnlyQueue = None,
    reason: OnlyReason = None,
    job: OnlyJob = None,
    tenant: OnlyTenant = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    rate: Rate = None,
    why: Why = "",
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Send dead letters through the pipeline again; without IDs and filters all of them.

    An upload goes back to the intake queue, and failed chunks go to a new run of their job. Changes that were not
    announced are read from the stream again. A dead letter is deleted only after that. `--rate` counts messages
    sent, runs started and batches announced.
    """
    wanted = _wanted(ids or [], queue, reason, job, tenant, limit)
    return _run(redrive_of, wanted, dry_run=dry_run, rate=rate, why=why, json=json, stack=stack)


@app.command("discard")
def discard_dead_letters(
    ids: Ids = None,
    queue: OnlyQueue = None,
    reason: OnlyReason = None,
    job: OnlyJob = None,
    tenant: OnlyTenant = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters: no ID and no filter is needed.")] = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    rate: Rate = None,
    why: Why = "",
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Throw dead letters away; the audit trail keeps the body of each up to 100 KB."""
    wanted = _wanted(ids or [], queue, reason, job, tenant, limit)
    if not (everything or ids or queue or reason or job or tenant):
        raise typer.BadParameter("Name dead letters by ID or by a filter, or throw all of them away with --all.")
    return _run(lambda _: Discard(), wanted, dry_run=dry_run, rate=rate, why=why, json=json, stack=stack)


def _wanted(
    ids: list[str],
    queue: Queue | None,
    reason: DeadLetterReason | None,
    job: str | None,
    tenant: str | None,
    limit: int | None,
) -> Wanted:
    queues = (queue,) if queue else tuple(Queue)
    return Wanted(tuple(ids), queues, reason, job, tenant, limit)


def _look(operations: Operations, wanted: Wanted) -> Found:
    with Held(operations.dead_letters(), LOOKING_SECONDS, operations.clock) as held:
        return _find(operations, wanted, held)


def _find(operations: Operations, wanted: Wanted, held: Held) -> Found:
    with console.status("Looking through the queues"):
        return find(wanted, held, jobs=operations.store.jobs, shards=operations.store.shards)


def _run(
    act_of: Callable[[Operations], Act],
    wanted: Wanted,
    *,
    dry_run: bool,
    rate: float | None,
    why: str,
    json: bool,
    stack: str | None,
) -> int:
    if not dry_run and not why.strip():
        raise typer.BadParameter("Say why: the audit trail keeps it.", param_hint="--why")
    operations = operate(stack)
    act = act_of(operations)
    done: list[GroupResult] = []
    with Held(operations.dead_letters(), LOOKING_SECONDS if dry_run else ACTING_SECONDS, operations.clock) as held:
        found = _find(operations, wanted, held)
        try:
            if dry_run:
                done += [GroupResult(group, act.foresee(group)) for group in act.groups(found.dead_letters)]
            else:
                pace = Pace(rate, operations.clock)
                command = DeadLetterCommand(act, held, operations.store.audit, pace, operations.who, why)
                _act_on(command, found.dead_letters, done)
        finally:  # also what was done before an interruption
            _tell_what_was_done(done, found, dry_run=dry_run, json=json)
    _tell_of(found)
    found.check()
    kept = any(each.result.status is ActStatus.KEPT for each in done)
    return Exit.PARTIAL if kept and not dry_run else Exit.SUCCEEDED


def _act_on(command: DeadLetterCommand, dead_letters: tuple[DeadLetter, ...], done: list[GroupResult]) -> None:
    with shown.progress(command.act.name, len(dead_letters)) as advance:
        for settled in command.run(dead_letters):
            done.append(settled)
            advance(len(settled.group.dead_letters))


def _tell_what_was_done(done: list[GroupResult], found: Found, *, dry_run: bool, json: bool) -> None:
    if json:
        emit_json({"dry_run": dry_run, "dead_letters": [value for each in done for value in shown.outcomes(each)]})
    elif done:
        show(shown.outcome_table(done, short_ids(found.dead_letters), dry_run=dry_run))
    if done:
        say(shown.summary(done, dry_run=dry_run))


def _tell_of(found: Found) -> None:
    if not found.dead_letters and not found.missing:
        say("No dead letters were found.")
    if not found.complete:
        say("There are more dead letters. To reach them, raise --limit.")
