"""Commands about the local cloud: up, down, status, logs, env."""

from __future__ import annotations

from pkgutil import iter_modules
from typing import Annotated

import typer

import backhaul.stages
from backhaul.cli.exits import Exit
from backhaul.cli.screen import emit_json, plain, say, show
from backhaul.local import LocalCloud
from backhaul.local.status import State

app = typer.Typer(no_args_is_help=True, help="Run the whole pipeline on this machine: no AWS account, no Docker.")


def report(step: str, seconds: float) -> None:
    """Tell of one finished step and how long it took."""
    say(f"  [dim]{seconds:6.1f} s[/dim]  {plain(step)}")


@app.command()
def up() -> int:
    """Start the local cloud and deploy this checkout to it; run it again after a change of code."""
    connection = LocalCloud().up(report)
    say(f"The local cloud is up at {plain(connection.endpoint_url)}.")
    say("Try: backhaul submit README.md -p text-stats --wait")
    return 0


@app.command()
def down() -> int:
    """Stop this checkout's local cloud and remove its data."""
    stopped = LocalCloud().down()
    say("The local cloud is down." if stopped else "The local cloud was not running.")
    return 0


@app.command()
def status(
    json: Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")] = False,
) -> int:
    """Say whether the local cloud runs, and where."""
    found = LocalCloud().status()
    if json:
        emit_json(found)
    else:
        show(plain(str(found)))
    return Exit.SUCCEEDED if found.state is State.RUNNING else Exit.FAILED


@app.command()
def logs(
    function: Annotated[str | None, typer.Argument(help="A stage, such as process; default: the emulator.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
) -> int:
    """Show what a function, or the emulator itself, has logged."""
    stages = [module.name for module in iter_modules(backhaul.stages.__path__)]
    if function is not None and function not in stages:
        raise typer.BadParameter(f"{function!r} is not a stage. Use one of: {', '.join(stages)}.")
    for line in LocalCloud().logs(function, follow=follow):
        show(plain(line))
    return 0


@app.command()
def env() -> int:
    """Print the variables that point AWS tools at the local cloud: eval "$(backhaul local env)"."""
    show(plain(LocalCloud().env()))
    return 0
