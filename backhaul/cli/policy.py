"""A job's policy as one writes it on the command line: an option for each of its fields."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import typer

from backhaul.cli.length import in_largest_unit, seconds_of
from backhaul.model.errors import InvalidRequest
from backhaul.model.money import dollars, nanodollars
from backhaul.model.policy import Policy, Written
from backhaul.model.policy_fields import FIELDS, PolicyField


def with_policy(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command an option for each field of a policy; it takes them together, as its argument `policy`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> int:
        written = {each.name: given.pop(_parameter_name(each)) for each in FIELDS}
        return command(**given, policy=policy_of(written))

    shown = inspect.signature(command, eval_str=True)
    parameters = []
    for each in shown.parameters.values():
        parameters += [_parameter(field) for field in FIELDS] if each.name == "policy" else [each]
    with_options.__signature__ = shown.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_options


def policy_of(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that were given, by name, as the API takes them; raises `BadParameter` for what is none."""
    given = {each.name: _read(each, written[each.name]) for each in FIELDS}
    return {name: value for name, value in given.items() if value is not None}


def dollars_of(text: str, named: str) -> str:
    """Return a cap in dollars as the API takes it; raises `BadParameter` naming the argument it was given as."""
    try:
        amount = nanodollars(text)
    except InvalidRequest as error:
        raise typer.BadParameter(str(error), param_hint=named) from None
    if amount == 0:
        raise typer.BadParameter("With $0 no call could be made. Write a larger amount.", param_hint=named)
    return dollars(amount)


def _parameter_name(field: PolicyField) -> str:
    return field.option.replace("-", "_")


def _parameter(field: PolicyField) -> inspect.Parameter:
    """Return the option of a field, as a command's signature has it."""
    is_flag, is_number = field.written is Written.FLAG, field.written in (Written.COUNT, Written.SECONDS)
    option = typer.Option(
        f"--{field.option}",
        metavar=None if is_flag else str(field.written),
        help=_help(field),
        min=field.least if is_number else None,
        max=field.most if is_number else None,
        rich_help_panel="Policy",
    )
    kind: Any = bool if is_flag else int | None if is_number else str | None
    return inspect.Parameter(
        _parameter_name(field),
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=False if is_flag else None,
        annotation=Annotated[kind, option],
    )


def _help(field: PolicyField) -> str:
    if field.written is Written.FLAG:
        return field.description
    if field.written is Written.TIME:
        return f"{field.description[:-1]}, as 90m, 2h, 1d or seconds. Default: {in_largest_unit(field.default)}."
    return f"{field.description} Default: {'any' if field.default is None else field.default}."


def _read(field: PolicyField, written: Any) -> Any:
    """Return what was written for a field as the API takes it, or None if nothing was."""
    if written is None or written is False:
        return None
    if field.written is Written.SHARE:
        return _share(field, written)
    if field.written is Written.DOLLARS:
        return dollars_of(written, f"--{field.option}")
    return _seconds(field, written) if field.written is Written.TIME else written


def _share(field: PolicyField, text: str) -> int | str:
    value = int(text) if re.fullmatch("[0-9]{1,9}", text) else text
    try:
        msgspec.convert({field.name: value}, Policy)
    except msgspec.ValidationError:
        said = f"{text!r} is neither a number of chunks, such as 5, nor a share of them, such as 5%."
        raise typer.BadParameter(said, param_hint=f"--{field.option}") from None
    return value


def _seconds(field: PolicyField, text: str) -> int:
    seconds, least, most = seconds_of(text), field.least or 0, field.most or 0
    if seconds is None:
        said = f"{text!r} is not a length of time. Write seconds, or a number with m, h or d: 90m, 2h, 1d."
        raise typer.BadParameter(said, param_hint=f"--{field.option}")
    if not least <= seconds <= most:
        said = f"{text!r} is not between {in_largest_unit(least)} and {in_largest_unit(most)}."
        raise typer.BadParameter(said, param_hint=f"--{field.option}")
    return seconds
