"""A job's policy as one writes it on the command line."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
import typer

from backhaul.model.errors import InvalidRequest
from backhaul.model.money import dollars, nanodollars
from backhaul.model.policy import MAX_DEADLINE, Policy

_PANEL = "Policy"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_LENGTH = re.compile(r"([0-9]{1,9})([smhd]?)")
_MIN_DEADLINE = 60

Tolerate = Annotated[
    str | None,
    typer.Option(
        metavar="N|N%",
        help="Chunks that may be missing from the output, as 5 or 5%; with more the job is FAILED. Default: any.",
        rich_help_panel=_PANEL,
    ),
]
FailFast = Annotated[
    bool,
    typer.Option("--fail-fast", help="End the job at the first chunk that cannot be done.", rich_help_panel=_PANEL),
]
MaxTries = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="How often a record is tried that fails for a reason that may pass. Default: 4.",
        min=1,
        max=10,
        rich_help_panel=_PANEL,
    ),
]
RecordTimeout = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        help="How long one record may take. Default: 120.",
        min=1,
        max=600,
        rich_help_panel=_PANEL,
    ),
]
Deadline = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="How long the job may run, as 90m, 2h, 1d or seconds, 7d at most. Default: 1d.",
        rich_help_panel=_PANEL,
    ),
]
Priority = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Queued jobs of a higher priority start first. Default: 5.",
        min=0,
        max=9,
        rich_help_panel=_PANEL,
    ),
]

MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="DOLLARS",
        help="What the job's calls of providers may cost in all, as 2.50; then it is PAUSED. Default: any.",
        rich_help_panel=_PANEL,
    ),
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache",
        help="Share answers of providers with your other jobs that ask for the same.",
        rich_help_panel=_PANEL,
    ),
]


def policy_of(
    *,
    tolerate: str | None,
    fail_fast: bool,
    max_tries: int | None,
    record_timeout: int | None,
    deadline: str | None,
    priority: int | None,
    max_cost: str | None,
    cache: bool,
) -> dict[str, Any]:
    """Return the fields of a policy that were given; raises `BadParameter` for what is none."""
    given = {
        "tolerate": None if tolerate is None else _tolerate(tolerate),
        "fail_fast": fail_fast or None,
        "max_tries": max_tries,
        "record_seconds": record_timeout,
        "deadline_seconds": None if deadline is None else _deadline(deadline),
        "priority": priority,
        "max_cost": None if max_cost is None else dollars_of(max_cost, "--max-cost"),
        "cache": cache or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def dollars_of(text: str, named: str) -> str:
    """Return a cap in dollars as the API takes it; raises `BadParameter` naming the argument it was given as."""
    try:
        amount = nanodollars(text)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint=named) from None
    if amount == 0:
        raise typer.BadParameter("With $0 no call could be made.", param_hint=named)
    return dollars(amount)


def _tolerate(text: str) -> int | str:
    value = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
    try:
        msgspec.convert({"tolerate": value}, Policy)
    except msgspec.ValidationError:
        said = f"{text!r} is neither a number of chunks, such as 5, nor a share of them, such as 5%."
        raise typer.BadParameter(said, param_hint="--tolerate") from None
    return value


def _deadline(text: str) -> int:
    found = _LENGTH.fullmatch(text)
    if found is None:
        said = f"{text!r} is no length of time. Write seconds, or a number with m, h or d: 90m, 2h, 1d."
        raise typer.BadParameter(said, param_hint="--deadline")
    seconds = int(found[1]) * _UNITS[found[2] or "s"]
    if not _MIN_DEADLINE <= seconds <= MAX_DEADLINE:
        raise typer.BadParameter(f"{text!r} is not between 1m and 7d.", param_hint="--deadline")
    return seconds
