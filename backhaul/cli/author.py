"""The processor author's inner loop: try a processor in this process, with no cloud."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer

from backhaul.cli.exits import Exit
from backhaul.cli.jobs import whole_file
from backhaul.cli.processor import Folder, Options, find, parse_options
from backhaul.cli.safe import stdout_bytes
from backhaul.cli.screen import THIS_MACHINE, plain, say, say_traceback, transfer
from backhaul.client.upload import size_of
from backhaul.model.errors import BackhaulError
from backhaul.model.money import display
from backhaul.reading import FileSource
from backhaul.trial.calls import TrialCalls, read_providers
from backhaul.trial.trial import trial


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("try", rich_help_panel=THIS_MACHINE)(try_processor)


def try_processor(
    processor: Annotated[str, typer.Argument(help="A processor's name.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="The file to process.", show_default=False)],
    option: Options = None,
    output: Annotated[Path | None, typer.Option("--output", help="The file to write; default: stdout.")] = None,
    folder: Folder = None,
    provider: Annotated[
        Path | None,
        typer.Option(
            help="A provider, or a list of them, as JSON: the fields of docs/providers.md, with a secret such as "
            "env:OPENAI_API_KEY. The calls are really made, and cost money.",
        ),
    ] = None,
) -> int:
    """Run a processor on a file on this machine, without a cloud; an error shows its full traceback.

    Example: `backhaul try text-stats README.md -o top=5`
    """
    calls = TrialCalls(read_providers(provider)) if provider else None
    create = partial(find(processor, folder).create, processor, parse_options(option or []))
    size = size_of(file)
    with ExitStack() as stack:
        # An output that goes to the terminal has it for itself.
        moved = stack.enter_context(transfer(processor, size, shown=bool(output) or not sys.stdout.isatty()))
        target = _Target(stack.enter_context(whole_file(output)) if output else stdout_bytes())
        try:
            tried = trial(create, FileSource(file), cast(BinaryIO, target), moved, calls)
        except BackhaulError:
            raise
        except Exception as error:
            if error is target.failure:
                raise
            say_traceback(error)
            raise typer.Exit(Exit.FAILED) from None
    sys.stdout.flush()
    tallies = "".join(f", {plain(name)} {amount:,}" for name, amount in tried.tallies.items())
    paid = f", {calls.calls:,} calls for {display(calls.cost)}" if calls else ""
    say(f"{tried.chunks} chunks, {tried.records:,} records{tallies}{paid}.")
    return 0


class _Target:
    """An output whose own failure, such as a full disk, can be told from an exception of the processor."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def write(self, piece: bytes) -> int:
        try:
            return self._file.write(piece)
        except OSError as error:
            self.failure = error
            raise
