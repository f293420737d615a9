"""Parsing a command that an alarm, or the doctor, names: with the real command line, without running it."""

from __future__ import annotations

import re
import shlex
from typing import Any

from typer.main import get_command

from backhaul.cli.app import app


def named_in(text: str) -> list[str]:
    """Return the commands of `backhaul` that a text names between backticks."""
    return re.findall(r"`(backhaul [^`]+)`", text)


def parse(command: str) -> dict[str, Any]:
    """Return the arguments of a command by their names; fails for what the command line does not take."""
    program, *arguments = shlex.split(command)
    assert program == "backhaul"
    parser: Any = get_command(app)
    context = parser.make_context(program, arguments)
    while hasattr(parser, "resolve_command"):
        name, parser, rest = parser.resolve_command(context, [*context._protected_args, *context.args])
        context = parser.make_context(name, rest, parent=context)
    return dict(context.params)
