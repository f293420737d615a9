"""What people see: messages, tables and bars for bytes; and JSON for programs, on stdout."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from backhaul.cli.safe import Console, escaped_json, printable
from backhaul.cli.safe import plain as plain  # every command imports it from here
from backhaul.model.api import JobView
from backhaul.model.job import JobState

console = Console(stderr=True)

OPERATORS = "Operators"
THIS_MACHINE = "On this machine"
"""Under which headings the help lists commands that are not about jobs."""

UNFOLDED = 1000
"""The width of a table that no terminal shows: more than the longest file name needs."""

STATE_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.PARTIAL: "yellow",
    JobState.PAUSED: "yellow",
    JobState.FAILED: "red",
    JobState.CANCELLED: "red",
    JobState.EXPIRED: "red",
}


def say(markup: str) -> None:
    """Tell the person at the terminal."""
    console.print(markup, soft_wrap=True)


def say_traceback(error: BaseException) -> None:
    """Tell the person at the terminal where an exception comes from."""
    say(plain("".join(traceback.format_exception(error)).rstrip()))


class Logged(logging.Handler):
    """Tells the person at the terminal what libraries warn of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one record."""
        say(plain(self.format(record)))


def emit_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(escaped_json(msgspec.json.format(msgspec.json.encode(value)).decode()) + "\n")
    sys.stdout.flush()


def show(answer: Table | str) -> None:
    """Write what was asked for to stdout, never folded where a program reads it."""
    stdout = Console(file=sys.stdout)
    if not stdout.is_terminal:
        stdout = Console(file=sys.stdout, width=UNFOLDED, color_system=None)
    stdout.print(answer, soft_wrap=isinstance(answer, str))


def plain_table(*columns: str) -> Table:
    """Return an empty table with these columns, without frames."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def job_table(jobs: Iterable[JobView]) -> Table:
    """Return a line for each job; where room is scarce, names are cut, and never an ID or a state."""
    found = tuple(jobs)
    table = plain_table("JOB", "STATE", "PROCESSOR", "PROGRESS", "AGE", "FILE")
    for job in found:
        row = (plain(job.job_id), styled(job.state), _cut(job.processor), f"{job.progress:.0%}", age(job.created_at))
        table.add_row(*row, _cut(job.file_name))
    for column, texts in ((0, [job.job_id for job in found]), (1, [job.state for job in found])):
        table.columns[column].min_width = max(map(len, texts), default=0)
    for column in (0, 1, 3, 4):
        table.columns[column].no_wrap = True
    return table


def _cut(text: str) -> Text:
    return Text(printable(text.replace("\n", " ")), no_wrap=True, overflow="ellipsis")


def styled(state: JobState) -> str:
    """Return a state in its colour."""
    style = STATE_STYLES.get(state, "cyan")
    return f"[{style}]{state}[/{style}]"


def option_text(value: Any) -> str:
    """Return an option's value as one writes it on the command line."""
    if value is None or value == {}:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(map(option_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def age(moment: datetime) -> str:
    """Return how long ago something was."""
    return span(datetime.now(UTC) - moment)


def span(length: timedelta) -> str:
    """Return a length of time in the largest unit that fits."""
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{max(seconds, 0)} s"


@contextmanager
def transfer(title: str, size: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for bytes; yields a function to tell how many were moved so far."""
    with transfers((title,), size, shown=shown) as (moved,):
        yield moved


@contextmanager
def transfers(titles: tuple[str, ...], size: int, *, shown: bool = True) -> Iterator[tuple[Callable[[int], None], ...]]:
    """Show a progress bar for each pass over the bytes, once it moves; yields for each what `transfer` does."""
    columns = (
        TextColumn("{task.description:<12}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bars:
        yield tuple(_bar(bars, title, size) for title in titles)


def _bar(bars: Progress, title: str, size: int) -> Callable[[int], None]:
    task = bars.add_task(title, total=size, start=False, visible=False)

    def move(moved: int) -> None:
        bars.start_task(task)
        bars.update(task, completed=moved, visible=True)

    return move
