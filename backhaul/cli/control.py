"""Commands that change what becomes of a job: cancel, redrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from backhaul.cli.exits import Exit, exit_of
from backhaul.cli.jobs import JobId, Json, Stack, follow, show_job
from backhaul.cli.screen import emit_json, plain, say
from backhaul.client.discovery import connect
from backhaul.model.api import JobView, RedrivenView
from backhaul.model.job import JobState

Wait = Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("cancel")(cancel)
    app.command("redrive")(redrive)


def cancel(
    job_id: JobId,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; the job shows it.")] = None,
    wait: Wait = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Cancel a job. What is done by then is kept, and a redrive does the rest.

    A running job stops within seconds; `--wait` exits with 0 once it is CANCELLED.

    Example: `backhaul cancel JOB --reason "the wrong file" --wait`
    """
    with connect(stack) as client:
        before = client.job(job_id)
        job = client.cancel(job_id, reason)
        say(_cancelled(before, job) + ("" if wait or job.state.is_terminal else _how_to_follow(job)))
        if wait and not job.state.is_terminal:
            job = follow(client, job_id)
    if json or wait:
        show_job(job, json=json)
    return Exit.SUCCEEDED if job.state is JobState.CANCELLED or not wait else Exit.FAILED


def redrive(
    job_id: JobId,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Only chunks that failed, not those that were never tried.")
    ] = False,
    wait: Wait = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Process again only what is missing from a job that has ended.

    The output becomes a new version; `backhaul result JOB --run 1` still fetches the first.

    Example: `backhaul redrive JOB --only-failed --wait`
    """
    with connect(stack) as client:
        done = client.redrive(job_id, only_failed=only_failed)
        say(_redriven(done, only_failed=only_failed) + (_how_to_follow(done.job) if done.started and not wait else ""))
        if done.started and wait:
            done = replace(done, job=follow(client, job_id))
    if json:
        emit_json(done)
    elif done.started and wait:
        show_job(done.job, json=False)
    return exit_of(done.job.state) if done.started and wait else Exit.SUCCEEDED


def _cancelled(before: JobView, job: JobView) -> str:
    name = f"Job [bold]{plain(job.job_id)}[/bold]"
    if before.state is JobState.CANCELLED:
        return f"{name} was cancelled already."
    if job.state is JobState.CANCELLED:
        return f"{name} is cancelled."
    if before.stopping is not None:
        return f"{name} is stopping already: {plain(before.stopping.message)}"
    return f"{name} is being cancelled."


def _redriven(done: RedrivenView, *, only_failed: bool) -> str:
    name = f"ob [bold]{plain(done.job.job_id)}[/bold]"
    if done.started:
        chunks = "1 chunk" if done.chunks == 1 else f"{done.chunks:,} chunks"
        return f"J{name} goes on with run {done.job.run}{f', for {chunks}' if done.chunks else ''}."
    if only_failed and done.job.state is not JobState.SUCCEEDED:
        rest = "To process chunks that were never tried as well, leave out --only-failed."
        return f"No chunk of j{name} has failed, so nothing was started. {rest}"
    return f"Nothing is missing from j{name}, so nothing was started."


def _how_to_follow(job: JobView) -> str:
    return f" Follow it with: backhaul watch {plain(job.job_id)}"
