"""The processor author's inner loop: try a processor in this process, with no cloud."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from backhaul.cli.jobs import Options, parse_options, whole_file
from backhaul.cli.screen import say, transfer
from backhaul.client import size_of
from backhaul.reading import FileSource
from backhaul.registry import find_processors
from backhaul.trial import trial

PROCESSORS = Path("processors")
"""Where a user's own processors lie, below the folder in which a command is run."""


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("try")(try_processor)


def try_processor(
    processor: Annotated[str, typer.Argument(help="A processor's name.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file to process.", show_default=False)],
    option: Options = None,
    output: Annotated[Path | None, typer.Option("--output", help="Where to write it; default: stdout.")] = None,
    folder: Annotated[Path, typer.Option(help="Where your own processors lie.")] = PROCESSORS,
) -> int:
    """Run a processor on a file in this process: no cloud, the same output, and your own traceback.

    Example: `backhaul try text-stats README.md -o top=5`
    """
    work = find_processors(folder).create(processor, parse_options(option or []))
    size = size_of(file)
    with ExitStack() as stack:
        moved = stack.enter_context(transfer(processor, size))
        target = stack.enter_context(whole_file(output)) if output else sys.stdout.buffer
        tried = trial(work, FileSource(file), target, moved)
    sys.stdout.flush()
    tallies = "".join(f", {name} {amount:,}" for name, amount in tried.tallies.items())
    say(f"{tried.chunks} chunks, {tried.records:,} records{tallies}.")
    return 0
