"""The command line: results on stdout, everything for people on stderr, exit codes that scripts can trust."""

from __future__ import annotations

import os
import sys

import typer

from backhaul.cli import author, jobs, local
from backhaul.cli.exits import EPILOG, Exit, exit_of
from backhaul.cli.screen import plain, say
from backhaul.errors import BackhaulError

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
jobs.add_to(app)
author.add_to(app)
app.add_typer(local.app, name="local")


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = int(app(arguments, standalone_mode=False) or 0)
    except typer.TyperException as error:
        say(f"[red]Error:[/red] {plain(error.format_message())} Try: backhaul --help")
        return Exit.USAGE
    except typer.Abort:
        code = Exit.INTERRUPTED
    except BackhaulError as error:
        say(f"[red]Error:[/red] {plain(str(error))}")
        return exit_of(error)
    except BrokenPipeError:
        # What is still buffered has no reader either; without this Python complains of it as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    if code == Exit.INTERRUPTED:  # so typer tells of Ctrl-C
        say("Interrupted.")
    return code
