"""Commands about breakers: list, open, close; and how a breaker looks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from backhaul.cli.dlq import Stack
from backhaul.cli.jobs import Json
from backhaul.cli.screen import emit_json, plain, plain_table, say, show, span
from backhaul.client.discovery import operate
from backhaul.model.breaker import BreakerState, Phase
from backhaul.operations import breakers as operations
from backhaul.operations.breakers import Switched
from backhaul.operations.providers import Listed, listing

app = typer.Typer(
    no_args_is_help=True, help="Breakers: see which providers are down and not called, and stop or allow calls by hand."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The provider's name.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit trail and for `breakers list`.")]

_STYLES = {Phase.OPEN: "red", Phase.HALF_OPEN: "yellow"}


@app.command("list")
def list_breakers(json: Json = False, stack: Stack = None) -> int:
    """List the breaker of each provider: its state, since when, why, and when the next probe is made."""
    deployment = operate(stack)
    found = listing(deployment)
    if json:
        emit_json({"breakers": [as_value(each) for each in found.providers]})
    elif found.providers:
        now = deployment.clock.now()
        table = plain_table("PROVIDER", "STATE", "SINCE", "REASON", "NEXT PROBE")
        for each in found.providers:
            state = each.breaker
            since = span(now - state.since) if state.since else "-"
            table.add_row(plain(each.stored.provider.name), _state(each), since, _reason(state), _next_probe(each, now))
        for column in (0, 1, 2, 4):
            table.columns[column].no_wrap = True
        show(table)
    else:
        say("There are no providers. Set one up: backhaul providers set --help")
    for problem in found.unreadable:
        say(plain(str(problem)))
    return 0


@app.command("open")
def open_breaker(name: Name, reason: Reason, stack: Stack = None) -> int:
    """Stop all calls of a provider until somebody closes its breaker; jobs wait, and none of them fails.

    Example: `backhaul breakers open openai-small --reason "their status page says so"`
    """
    why = said_why(reason)
    done = operations.hold_open(operate(stack), name, why)
    if done.changed:
        command = f"backhaul breakers close {plain(name)}"
        say(f"The breaker of {plain(name)} is open. No call is made until it is closed with: {command}")
    else:
        say(f"The breaker of {plain(name)} is open already, by hand: {_reason(done.state)}.")
    return 0


@app.command("close")
def close_breaker(name: Name, reason: Reason, stack: Stack = None) -> int:
    """Close a provider's breaker, so that calls are made again at once; it opens again if they fail.

    Example: `backhaul breakers close openai-small --reason "they are back"`
    """
    why = said_why(reason)
    done = operations.close(operate(stack), name, why)
    say(f"The breaker of {plain(name)} is closed{_before(done) if done.changed else ' already'}.")
    return 0


def said_why(reason: str) -> str:
    """Return a reason without the blanks around it; there must be one."""
    if not reason.strip():
        raise typer.BadParameter("Say why: the audit trail keeps it.", param_hint="--reason")
    return reason.strip()


def in_words(each: Listed, now: datetime) -> str:
    """Return how a provider's breaker stands, as markup for one cell."""
    state = each.breaker
    if state.is_held_open:
        return f"{_state(each)} by hand"
    probe = _next_probe(each, now)
    return _state(each) + ("" if probe == "-" else f", probe {probe}")


def in_full(each: Listed, now: datetime) -> str:
    """Return how a provider's breaker stands and, if calls are held back, why, as markup."""
    held = each.breaker.state is not Phase.CLOSED and each.stored.provider.breaker.enabled
    return in_words(each, now) + (f": {_reason(each.breaker)}" if held else "")


def as_value(each: Listed) -> dict[str, Any]:
    """Return a provider's breaker for programs."""
    state = each.breaker
    names = ("provider", "state", "since", "reason", "by", "why", "next_probe_at")
    return {name: getattr(state, name) for name in names} | {"enabled": each.stored.provider.breaker.enabled}


def _state(each: Listed) -> str:
    if not each.stored.provider.breaker.enabled:
        return "[dim]off[/dim]"
    style = _STYLES.get(each.breaker.state)
    return f"[{style}]{each.breaker.state}[/{style}]" if style else str(each.breaker.state)


def _reason(state: BreakerState) -> str:
    if state.by is not None:
        return f"{plain(state.why or '')} (by {plain(state.by)})"
    return plain(state.reason or "-")


def _next_probe(each: Listed, now: datetime) -> str:
    state = each.breaker
    if not each.stored.provider.breaker.enabled or state.state is Phase.CLOSED:
        return "-"
    if state.is_held_open:
        return "none, until it is closed"
    if state.state is Phase.HALF_OPEN:
        return "under way"
    left = (state.next_probe_at - now).total_seconds() if state.next_probe_at else 0.0
    return f"in {left:.0f} s" if left > 0 else "with the next call"


def _before(done: Switched) -> str:
    return f"; it was {done.before.state}: {_reason(done.before)}"
