"""The commands together, and how each error ends them."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from backhaul.cli import (
    audit,
    author,
    breakers,
    budget,
    control,
    destroy,
    dlq,
    doctor,
    estimate,
    intake,
    jobs,
    local,
    prices,
    providers,
    submit,
    usage,
)
from backhaul.cli.exits import EPILOG, Exit, exit_of
from backhaul.cli.screen import OPERATORS, THIS_MACHINE, Logged, plain, say, show
from backhaul.client.discovery import AWS_ERRORS, said
from backhaul.model.errors import BackhaulError

app = typer.Typer(
    name="backhaul",
    help="Process large files in the background: submit a file, follow its job, fetch the result.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
submit.add_to(app)
estimate.add_to(app)
jobs.add_to(app)
control.add_to(app)
app.add_typer(budget.app, name="budget")
usage.add_to(app)
app.command()(prices.prices)
author.add_to(app)
app.command(rich_help_panel=OPERATORS)(doctor.doctor)
intake.add_to(app)
app.add_typer(dlq.app, name="dlq", rich_help_panel=OPERATORS)
app.add_typer(providers.app, name="providers", rich_help_panel=OPERATORS)
app.add_typer(breakers.app, name="breakers", rich_help_panel=OPERATORS)
app.command(rich_help_panel=OPERATORS)(destroy.destroy)
app.command(rich_help_panel=OPERATORS)(audit.audit)
app.add_typer(local.app, name="local", rich_help_panel=THIS_MACHINE)


def _show_version(wanted: bool) -> None:
    if wanted:
        show(f"backhaul {version('backhaul')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    logging.lastResort = Logged(logging.WARNING)
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
    except typer.TyperException as error:
        if message := error.format_message():  # without a command the help was shown, and nothing else is wrong
            say(f"[red]Error:[/red] {plain(message)} Try: backhaul --help")
        return Exit.USAGE
    except typer.Abort:
        code = Exit.INTERRUPTED
    except BackhaulError as error:
        say(f"[red]Error:[/red] {plain(str(error))}")
        return exit_of(error)
    except AWS_ERRORS as error:
        say(f"[red]Error:[/red] AWS refused the request, or did not answer: {plain(said(error))}")
        return Exit.UNREACHABLE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"[red]Error:[/red] Reading or writing failed: {plain(where)}{plain(error.strerror or str(error))}.")
        _leave_unwritten()
        return Exit.UNWRITTEN
    if code == Exit.INTERRUPTED:  # so typer tells of Ctrl-C
        say("Interrupted.")
    return code


def _leave_unwritten() -> None:
    """Let Python end without a second complaint of what is still buffered for a stdout that takes no more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
