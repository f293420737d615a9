"""Commands about jobs: submit, status, watch, list, result, processors."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.markup import escape

from backhaul.api import JobView
from backhaul.cli.exits import exit_of
from backhaul.cli.screen import (
    JobProgress,
    describe,
    emit_json,
    job_table,
    option_text,
    plain,
    plain_table,
    say,
    show,
    transfer,
    transfers,
)
from backhaul.client import Backhaul, size_of
from backhaul.discovery import connect
from backhaul.errors import InvalidRequest
from backhaul.job import JobState

Stack = Annotated[
    str | None,
    typer.Option(
        "--stack",
        envvar="BACKHAUL_STACK",
        help="CloudFormation stack to talk to; without it the API at BACKHAUL_API_URL, else the local cloud.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's ID.", show_default=False)]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the processor; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("submit")(submit)
    app.command("status")(status)
    app.command("watch")(watch)
    app.command("list")(list_jobs)
    app.command("result")(result)
    app.command("processors")(processors)


def submit(
    file: Annotated[Path, typer.Argument(help="The file to process.", show_default=False)],
    processor: Annotated[str, typer.Option("--processor", "-p", help="What to do with it.", show_default=False)],
    option: Options = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Upload a file and start its job.

    Example: `backhaul submit app.log --processor redact -o types=email,ipv4 --wait`
    """
    options = parse_options(option or [])
    size = size_of(file)
    with connect(stack) as client:
        with transfers(("hashing", "uploading"), size) as (hashed, moved):
            job = client.submit(file, processor, options, hashing=hashed, progress=moved)
        say(f"Job [bold]{job.job_id}[/bold] submitted. Follow it with: backhaul watch {job.job_id}")
        if wait:
            return _follow(client, job.job_id, json=json)
    if json:
        emit_json(job)
    else:
        show(job.job_id)
    return 0


def status(job_id: JobId, json: Json = False, stack: Stack = None) -> int:
    """Show where a job stands."""
    with connect(stack) as client:
        _show(client.job(job_id), json=json)
    return 0


def watch(job_id: JobId, json: Json = False, stack: Stack = None) -> int:
    """Follow a job until it has ended; the exit code tells how."""
    with connect(stack) as client:
        return _follow(client, job_id, json=json)


def list_jobs(
    state: Annotated[JobState | None, typer.Option(help="Only jobs in this state.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(help="How many jobs at most.", min=1)] = 20,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """List your jobs, newest first."""
    with connect(stack) as client:
        found = _newest(client, state, limit)
    if json:
        emit_json({"jobs": found})
        return 0
    show(job_table(found))
    return 0


def result(
    job_id: JobId,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write it; default: stdout.")] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Fetch the receipt instead of the output.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write where it can be fetched, as JSON.")] = False,
    stack: Stack = None,
) -> int:
    """Fetch the output of a job.

    With `--json` stdout gets only where it can be fetched, and a file only if `--output` names one.
    """
    with connect(stack) as client:
        download = client.receipt(job_id) if receipt else client.result(job_id)
        if output is not None:
            with transfer("downloading", download.size) as moved, whole_file(output) as file:
                client.fetch(download, file, progress=moved)
            say(f"Wrote {download.size:,} bytes to {plain(str(output))}.")
        elif not json:
            client.fetch(download, sys.stdout.buffer)
            sys.stdout.flush()
        if json:
            emit_json(download)
    return 0


def processors(json: Json = False, stack: Stack = None) -> int:
    """List the processors that the deployment offers, and their options."""
    with connect(stack) as client:
        found = client.processors()
    if json:
        emit_json({"processors": found})
        return 0
    table = plain_table("PROCESSOR", "OPTION", "TYPE", "DEFAULT", "DESCRIPTION")
    for each in found:
        table.add_row(f"[bold]{each.name}[/bold]", "", "", "", escape(each.summary))
        for option in each.options:
            limits = f" ({option.limits})" if option.limits else ""
            texts = (option_text(option.default), option.description + limits)
            table.add_row("", option.name, option.type, *map(escape, texts))
    show(table)
    return 0


def parse_options(pairs: list[str]) -> dict[str, str]:
    """Return options written as KEY=VALUE; the deployment turns each text into the option's type."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE.", param_hint="--option")
        if name in options:
            raise typer.BadParameter(f"{name!r} is given twice.", param_hint="--option")
        options[name] = text
    return options


def _follow(client: Backhaul, job_id: str, *, json: bool) -> int:
    with JobProgress() as shown:
        for job in client.follow(job_id, unanswered=shown.wait):
            shown.update(job)
    _show(job, json=json)
    return exit_of(job.state)


def _show(job: JobView, *, json: bool) -> None:
    if json:
        emit_json(job)
    else:
        show(describe(job))


def _newest(client: Backhaul, state: JobState | None, limit: int) -> tuple[JobView, ...]:
    found: tuple[JobView, ...] = ()
    after: str | None = None
    while len(found) < limit:
        page = client.jobs(state=state, after=after, limit=min(limit - len(found), 100))
        found, after = found + page.jobs, page.next
        if after is None:
            break
    return found


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only once it is whole; a device or pipe is written to as it is.

    A symbolic link stays, and what it points to is written.
    """
    target = Path(os.path.realpath(path))
    regular = target.is_file() or not target.exists()
    written = target.with_name(f".backhaul-{secrets.token_hex(8)}") if regular else target
    try:
        file = written.open("xb" if regular else "wb")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from None
    try:
        with file:
            yield file
        if regular:
            written.replace(target)
    finally:
        if regular:
            written.unlink(missing_ok=True)
