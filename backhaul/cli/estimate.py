"""What a job would take, before it is submitted: read here, reckoned by the deployment, and nothing is uploaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from backhaul.cli.jobs import Json, Stack
from backhaul.cli.processor import Folder, Options, ProcessorName, find, parse_options, registry_for
from backhaul.cli.screen import emit_json, plain, plain_table, say, show, transfer
from backhaul.client.client import Backhaul
from backhaul.client.discovery import connect
from backhaul.client.upload import size_of
from backhaul.estimate.estimate import CostRange, Estimate, Range
from backhaul.estimate.sampling import READ_WHOLE, SAMPLE_BYTES, Look, expects_calls, look_at
from backhaul.model.errors import InvalidRequest, UnknownProcessor
from backhaul.model.money import display, nanodollars
from backhaul.plugin.processor import Processor
from backhaul.reading import FileSource

NoEstimate = Annotated[
    bool,
    typer.Option("--no-estimate", help="With --max-cost: submit without an estimate of whether that amount is enough."),
]
_LIMITS = {
    "requests_per_minute": "{}'s requests a minute",
    "tokens_per_minute": "{}'s tokens a minute",
    "calls": "the time that calls of {} take",
    "reading": "the time that reading takes",
}
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))


def add_to(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("estimate")(estimate)


def estimate(
    file: Annotated[Path, typer.Argument(help="The file to process.", show_default=False)],
    processor: ProcessorName,
    option: Options = None,
    folder: Folder = None,
    json: Json = False,
    stack: Stack = None,
) -> int:
    """Say what a job would take: calls, tokens, cost and time; nothing is uploaded, and no provider is called.

    Example: `backhaul estimate app.log --processor redact -o types=email,ipv4`

    The processor must be on this machine too, built in or in `processors/`. A file of more than 16 MiB is sampled.
    """
    options = parse_options(option or [])
    look = _look_at(file, partial(find(processor, folder).create, processor, options))
    with connect(stack) as client:
        made = client.estimate(processor, size_of(file), options, expected=look)
    if json:
        emit_json(made)
    else:
        show(_table(made))
        say(_how(made, look))
    return 0


def refuse_above_cap(
    client: Backhaul, file: Path, processor: str, options: Mapping[str, Any], policy: Mapping[str, Any]
) -> None:
    """Raise `InvalidRequest` for a job that would cost more than its `max_cost` even if all goes well.

    Of a processor that calls nobody, or is not on this machine, no estimate is made.
    """
    if policy.get("max_cost") is None:
        return
    cap = nanodollars(policy["max_cost"])
    found = registry_for(processor)
    try:
        if not expects_calls(found.create(processor, options)):
            return
    except UnknownProcessor:
        say(f"No estimate was made, because the processor {plain(processor)} is not on this machine.")
        return
    look = _look_at(file, partial(found.create, processor, options))
    cost = client.estimate(processor, size_of(file), options, expected=look).cost
    low, likely, _ = cost.nanodollars
    if low > cap:
        raise InvalidRequest(
            f"The job would cost at least {display(low)} and probably {display(likely)}, but its cap is "
            f"{display(cap)}. Raise --max-cost, or add --no-estimate: then the job starts, and is paused once the cap "
            "is spent."
        )
    if likely > cap:
        say(
            f"[yellow]The job will probably cost {display(likely)}. It is paused once {display(cap)} is spent.[/yellow]"
        )


def _look_at(file: Path, create: Callable[[], Processor]) -> Look:
    size = size_of(file)
    with transfer("reading", size if size <= READ_WHOLE else SAMPLE_BYTES) as moved:
        return look_at(create, FileSource(file), moved)


def _table(made: Estimate) -> Table:
    table = plain_table(plain(made.processor.upper()), "LOW", "LIKELY", "HIGH")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _rows(made):
        table.add_row(*map(plain, row))
    return table


def _rows(made: Estimate) -> Iterator[tuple[str, ...]]:
    yield "chunks", "", f"{made.chunks:,}", ""
    yield "shards", "", f"{made.shards:,}", ""
    yield "records", *_counts(made.records)
    for each in made.providers:
        yield f"{each.provider}: calls", *_counts(each.calls)
        yield f"{each.provider}: input tokens", *_counts(each.input_tokens)
        yield f"{each.provider}: output tokens", *_counts(each.output_tokens)
        yield f"{each.provider}: cost", *_costs(each.cost)
    if len(made.providers) != 1:
        yield "cost of providers", *_costs(made.cost)
    yield "cost of AWS, about", "", display(nanodollars(made.aws_cost)), ""
    yield "time, at least", _time(made.seconds), "", ""


def _counts(count: Range) -> tuple[str, str, str]:
    if count.low == count.high:
        return "", f"{count.likely:,}", ""
    return f"{count.low:,}", f"{count.likely:,}", f"{count.high:,}"


def _costs(cost: CostRange) -> tuple[str, str, str]:
    low, likely, high = map(display, cost.nanodollars)
    return (low, likely, high) if low != high else ("", likely, "")


def _how(made: Estimate, look: Look) -> str:
    """Return what the job cannot be faster than, and how much of the file that is made from."""
    said = (
        f"The job takes at least {_time(made.seconds)}, because of {plain(_LIMITS[made.limit].format(made.slowest))}."
    )
    if made.read < made.size:
        share, error = made.read / made.size, look.sampled.error
        said += f" Only {share:.1%} of the file was read, so the numbers may be off by {error:.0%}."
    return said


def _time(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= 2 * size), ("s", 1))
    amount = seconds / size
    return f"{amount:,.{0 if size == 1 or amount >= 10 else 1}f} {unit}"
