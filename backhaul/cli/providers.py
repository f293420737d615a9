"""Commands about providers: list, show, set, remove."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from backhaul.cli.breakers import Name, as_value, in_full, in_words, said_why
from backhaul.cli.dlq import Stack
from backhaul.cli.jobs import Json
from backhaul.cli.screen import emit_json, plain, plain_table, say, show, span
from backhaul.client.discovery import operate
from backhaul.model.errors import InvalidRequest
from backhaul.operations import providers as operations
from backhaul.operations.provider_fields import FIELDS, check_fields, default_of, meaning_of, text_of, values_of
from backhaul.operations.providers import Change, Listed, ProviderUpdate
from backhaul.providers import Provider

app = typer.Typer(
    no_args_is_help=True, help="Providers: the paid APIs that processors may call, with their limits, prices and keys."
)

WIDE = 120
"""Columns of a terminal in which a provider fits on one line."""

Fields = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="FIELD=VALUE", help="What to set; `FIELD=` resets a field to its default.", show_default=False
    ),
]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The whole provider, as `show --json` writes it; - is stdin."),
]


def _fields_help() -> str:
    """Return what can be set and what it is otherwise, as a table in Markdown."""
    rows = ["| Field | |", "|---|---|"]
    for field in FIELDS:
        default = text_of(default_of(field))
        rows.append(f"| `{field}` | {meaning_of(field)}{f' (default: {default})' if default else ''} |")
    return "\n".join(rows)


@app.command("list")
def list_providers(json: Json = False, stack: Stack = None) -> int:
    """List the providers: their models, limits, prices, and whether they are up."""
    deployment = operate(stack)
    found = operations.listing(deployment)
    if json:
        unreadable = [str(each) for each in found.unreadable]
        emit_json({"providers": [_value(each) for each in found.providers], "unreadable": unreadable})
        return 0
    if found.providers:
        show(_listing(found.providers, deployment.clock.now()))
    elif not found.unreadable:
        say("There are no providers. Set one up: backhaul providers set --help")
    for problem in found.unreadable:
        say(plain(str(problem)))
    return 0


@app.command("show")
def show_provider(name: Name, json: Json = False, stack: Stack = None) -> int:
    """Show all fields of a provider, and where its key is kept.

    Example: `backhaul providers show openai-small --json > openai-small.json`
    """
    deployment = operate(stack)
    found = operations.look(deployment, name)
    if json:
        emit_json(operations.as_document(found.stored))
        return 0
    now, stored = deployment.clock.now(), found.stored
    show(_fields(stored.provider))
    show(f"changed {span(now - stored.changed_at)} ago by {plain(stored.changed_by)}")
    show(f"breaker {in_full(found, now)}")
    return 0


@app.command("set", epilog=_fields_help())
def set_provider(
    name: Name,
    fields: Fields = None,
    file: File = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail.")] = "",
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Set up a provider, or change the named fields of one.

    Example: `backhaul providers set openai-small requests_per_minute=500 breaker.share=0.3 tokens_per_minute=`

    Example: `backhaul providers set openai-small --file openai-small.json --reason "a new tier"`

    With `--file` all other fields get their defaults. If the file has a `version`, as `show --json` writes it, and
    somebody has changed the provider since, the command changes nothing.
    """
    if bool(fields) is (file is not None):
        raise typer.BadParameter("Name the fields to set as FIELD=VALUE, or a file of all of them with --file.")
    if file is not None:
        document = _document(file)
        done = operations.replace(operate(stack), name, document, reason.strip())
    else:
        given = parse_fields(fields or [])
        done = operations.change(operate(stack), name, given, reason.strip())
    _tell(done, json=json)
    return 0


@app.command("remove")
def remove_provider(
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the audit trail, which keeps the settings.")],
    stack: Stack = None,
) -> int:
    """Remove a provider: calls to it fail from then on.

    Example: `backhaul providers remove openai-small --reason "replaced by openai-large"`
    """
    why = said_why(reason)
    operations.remove(operate(stack), name, why)
    say(f"The provider {plain(name)} is removed. Workers stop calling it within 30 seconds.")
    return 0


def parse_fields(pairs: Sequence[str]) -> dict[str, str]:
    """Return fields written as FIELD=VALUE; no error repeats what could be a key."""
    given: dict[str, str] = {}
    for number, pair in enumerate(pairs, start=1):
        field, separator, text = pair.partition("=")
        if not separator or not field:
            raise typer.BadParameter(f"Argument {number} after the name is not FIELD=VALUE, such as model=gpt-4o-mini.")
        check_fields([field])
        if field in given:
            raise typer.BadParameter(f"{field!r} is given twice.")
        given[field] = text
    return given


def _document(file: Path) -> Mapping[str, Any]:
    """Return the JSON object in a file; raises `InvalidRequest`, which repeats nothing of it."""
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    where = "Standard input" if str(file) == "-" else str(file)
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidRequest(f"{where} is not JSON. For an example run: backhaul providers show NAME --json") from None
    if not isinstance(document, dict):
        raise InvalidRequest(f'{where} holds no object of a provider\'s fields, such as {{"kind": "openai", ...}}.')
    return document


def _tell(done: ProviderUpdate, *, json: bool) -> None:
    name = plain(done.provider.name)
    if json:
        values = {"provider": done.provider.name, "version": done.version, "is_new": done.is_new}
        emit_json(values | {"changes": done.changes})
    elif done.changes:
        show(_changes(done.changes, is_new=done.is_new))
    if not done.changes:
        say(f"The provider {name} has these values already; nothing was changed.")
    elif done.is_new:
        say(f"The provider {name} is set up.")
    else:
        say(f"The provider {name} is changed. Workers use the change within 30 seconds.")


def _changes(changes: Sequence[Change], *, is_new: bool) -> Table:
    table = plain_table("FIELD", *["BEFORE"] * (not is_new), "VALUE" if is_new else "AFTER")
    for each in changes:
        values = [each.after] if is_new else [each.before, each.after]
        table.add_row(each.field, *(plain(text_of(value) or "-") for value in values))
    table.columns[0].no_wrap = True
    return table


def _fields(provider: Provider) -> Table:
    table = plain_table("FIELD", "VALUE", "")
    table.add_row("name", plain(provider.name), "")
    for field, value in values_of(provider).items():
        text = text_of(value)
        is_default = bool(text) and value == default_of(field)
        table.add_row(field, plain(text or "-"), "[dim]default[/dim]" if is_default else "")
    table.columns[0].no_wrap = True
    return table


def _listing(found: Sequence[Listed], now: datetime) -> Table | str:
    stdout = Console(file=sys.stdout)
    if stdout.is_terminal and stdout.width < WIDE:
        return "\n".join(_two_lines(each, now) for each in found)
    table = plain_table("NAME", "KIND", "MODEL", "REQUESTS/MIN", "TOKENS/MIN", "$/M IN", "$/M OUT", "BREAKER")
    for each in found:
        given = each.stored.provider
        limits = (f"{limit:,}" if limit else "-" for limit in (given.requests_per_minute, given.tokens_per_minute))
        prices = (text_of(price) for price in (given.price_input, given.price_output))
        table.add_row(plain(given.name), given.kind, plain(given.model or "-"), *limits, *prices, in_words(each, now))
    for column in (3, 4, 5, 6):
        table.columns[column].justify = "right"
    for column in (0, 1, 3, 4, 5, 6, 7):
        table.columns[column].no_wrap = True
    return table


def _two_lines(each: Listed, now: datetime) -> str:
    """Return a provider where a table would cut its model."""
    given = each.stored.provider
    limits = ((given.requests_per_minute, "requests"), (given.tokens_per_minute, "tokens"))
    said = [plain(given.model)] * bool(given.model) + [f"{limit:,} {what}/min" for limit, what in limits if limit]
    said.append(f"${text_of(given.price_input)}/M in, ${text_of(given.price_output)}/M out")
    return f"[bold]{plain(given.name)}[/bold]  {given.kind}  {in_words(each, now)}\n  [dim]{', '.join(said)}[/dim]"


def _value(each: Listed) -> dict[str, Any]:
    return {
        "provider": operations.as_document(each.stored),
        "changed_at": each.stored.changed_at,
        "changed_by": each.stored.changed_by,
        "breaker": as_value(each),
    }
