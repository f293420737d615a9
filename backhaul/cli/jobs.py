"""Commands that look at jobs: status, watch, list, result."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from backhaul.cli.describe import describe
from backhaul.cli.exits import exit_of
from backhaul.cli.progress import JobProgress
from backhaul.cli.safe import stdout_bytes
from backhaul.cli.screen import emit_json, job_table, plain, say, show, transfer
from backhaul.client.client import Backhaul
from backhaul.client.discovery import connect
from backhaul.model.api import JobView
from backhaul.model.errors import InvalidRequest
from backhaul.model.job import JobState

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


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("status")(status)
    app.command("watch")(watch)
    app.command("list")(list_jobs)
    app.command("result")(result)


def status(job_id: JobId, json: Json = False, stack: Stack = None) -> int:
    """Show the state of a job, and what to do if chunks are missing."""
    with connect(stack) as client:
        show_job(client.job(job_id), json=json)
    return 0


def watch(job_id: JobId, json: Json = False, stack: Stack = None) -> int:
    """Follow a job until it has ended; the exit code says how it ended."""
    with connect(stack) as client:
        job = follow(client, job_id)
    show_job(job, json=json)
    return exit_of(job.state)


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
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The file to write; default: stdout.")] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Fetch the receipt instead of the output.")] = False,
    run: Annotated[
        int | None,
        typer.Option("--run", metavar="N", help="Fetch what this run made; 1 is the first run.", min=1),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write the download's URL and size as JSON.")] = False,
    stack: Stack = None,
) -> int:
    """Fetch the output of a job, or of an earlier run of one that was redriven.

    Example: `backhaul result JOB --run 1 -o before.log`

    With `--json`, stdout gets the URL instead of the output; `--output` still writes the file.
    """
    with connect(stack) as client:
        download = client.receipt(job_id, run) if receipt else client.result(job_id, run)
        if output is not None:
            with transfer("downloading", download.size) as moved, whole_file(output) as file:
                client.fetch(download, file, progress=moved)
            say(f"Wrote {download.size:,} bytes to {plain(str(output))}.")
        elif not json:
            client.fetch(download, stdout_bytes())
            sys.stdout.flush()
        if json:
            emit_json(download)
    return 0


def follow(client: Backhaul, job_id: str) -> JobView:
    """Show how a job goes on until it has ended, and return it."""
    with JobProgress() as shown:
        for job in client.follow(job_id, unanswered=shown.wait):
            shown.update(job)
    return job


def show_job(job: JobView, *, json: bool) -> None:
    """Write a job to stdout, for people or as JSON."""
    if json:
        emit_json(job)
    else:
        show(describe(job, datetime.now(UTC)))


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
    try:  # from before the file is there: a signal may come as soon as it is
        try:
            file = written.open("xb" if regular else "wb")
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from None
        with file:
            yield file
        if regular:
            written.replace(target)
    finally:
        if regular:
            written.unlink(missing_ok=True)
