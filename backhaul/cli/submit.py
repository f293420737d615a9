"""Commands that begin something: submit, and the processors there are to submit to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from backhaul.cli.estimate import NoEstimate, refuse_above_cap
from backhaul.cli.exits import exit_of
from backhaul.cli.jobs import Json, Stack, follow, show_job
from backhaul.cli.policy import with_policy
from backhaul.cli.processor import Options, ProcessorName, parse_options
from backhaul.cli.screen import emit_json, option_text, plain, plain_table, say, show, transfers
from backhaul.client.discovery import connect
from backhaul.client.upload import size_of


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("submit")(with_policy(submit))
    app.command("processors")(processors)


def submit(
    file: Annotated[Path, typer.Argument(help="The file to process.", show_default=False)],
    processor: ProcessorName,
    option: Options = None,
    policy: Any = None,
    no_estimate: NoEstimate = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job until it has ended.")] = False,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Upload a file and start its job.

    Example: `backhaul submit app.log --processor redact -o types=email,ipv4 --wait`

    Example: `backhaul submit app.log -p redact --tolerate 5% --deadline 2h`
    """
    options = parse_options(option or [])
    size = size_of(file)
    with connect(stack) as client:
        if not no_estimate:
            refuse_above_cap(client, file, processor, options, policy)
        with transfers(("hashing", "uploading"), size) as (hashed, moved):
            job = client.submit(file, processor, options, policy=policy, hashing=hashed, progress=moved)
        say(f"Job [bold]{plain(job.job_id)}[/bold] submitted. Follow it with: backhaul watch {plain(job.job_id)}")
        if wait:
            job = follow(client, job.job_id)
    if wait:
        show_job(job, json=json)
        return exit_of(job.state)
    if json:
        emit_json(job)
    else:
        show(plain(job.job_id))
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
        table.add_row(f"[bold]{plain(each.name)}[/bold]", "", "", "", plain(each.summary))
        for option in each.options:
            limits = f" ({option.limits})" if option.limits else ""
            texts = (option.name, option.type, option_text(option.default), option.description + limits)
            table.add_row("", *map(plain, texts))
    show(table)
    return 0
