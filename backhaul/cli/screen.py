"""What people see: messages, tables and progress bars, all on stderr; and JSON for programs, on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from backhaul.api import JobView
from backhaul.errors import DeploymentUnreachable
from backhaul.job import JobState

console = Console(stderr=True, highlight=False)

UNFOLDED = 1000
"""The width of a table that no terminal shows: more than the longest file name needs."""

STATE_STYLES = {
    JobState.SUCCEEDED: "green",
    JobState.PARTIAL: "yellow",
    JobState.FAILED: "red",
    JobState.CANCELLED: "red",
    JobState.EXPIRED: "red",
}


def say(markup: str) -> None:
    """Tell the person at the terminal."""
    console.print(markup, soft_wrap=True)


def emit_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")
    sys.stdout.flush()


def show(answer: Table | str) -> None:
    """Write what was asked for to stdout, never folded where a program reads it."""
    stdout = Console(file=sys.stdout, highlight=False)
    if not stdout.is_terminal:
        stdout = Console(file=sys.stdout, highlight=False, width=UNFOLDED, color_system=None)
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
        row = (job.job_id, styled(job.state), _cut(job.processor), f"{job.progress:.0%}", age(job.created_at))
        table.add_row(*row, _cut(job.file_name))
    for column, texts in ((0, [job.job_id for job in found]), (1, [job.state for job in found])):
        table.columns[column].min_width = max(map(len, texts), default=0)
    for column in (0, 1, 3, 4):
        table.columns[column].no_wrap = True
    return table


def _cut(text: str) -> Text:
    return Text(_printable(text.replace("\n", " ")), no_wrap=True, overflow="ellipsis")


def styled(state: JobState) -> str:
    """Return a state in its colour."""
    style = STATE_STYLES.get(state, "cyan")
    return f"[{style}]{state}[/{style}]"


def plain(text: str) -> str:
    """Return text of any origin as markup that shows it and does nothing else to a terminal."""
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)


def option_text(value: Any) -> str:
    """Return an option's value as one writes it on the command line."""
    if value is None or value == {}:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(map(option_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def describe(job: JobView) -> str:
    """Return a job in one paragraph."""
    counts = job.counts
    lines = [f"[bold]{job.job_id}[/bold]  {styled(job.state)}  {plain(job.processor)}  {plain(job.file_name)}"]
    if counts.chunks:
        failed = f", {counts.chunks_failed} failed" if counts.chunks_failed else ""
        lines.append(f"  {counts.chunks_done} of {counts.chunks} chunks{failed}, {counts.records:,} records")
    if counts.tallies:
        lines.append("  " + ", ".join(f"{plain(name)} {amount:,}" for name, amount in counts.tallies.items()))
    if job.cause is not None:
        detail = f" ({plain(job.cause.detail)})" if job.cause.detail else ""
        lines.append(f"  {plain(job.cause.message)}{detail}")
    if job.upload_until is not None:
        lines.append(f"  waiting for the upload until {job.upload_until:%H:%M:%S} UTC")
    return "\n".join(lines)


def age(moment: datetime) -> str:
    """Return how long ago something was, in the largest unit that fits."""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
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
        TextColumn("{task.description:<12}"),
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


class JobProgress:
    """A live line for one job: chunks, records per second and the time that is left."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("chunks"),
            _RecordRate(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task("", total=None, records=0)
        self._state: JobState | None = None
        self._waiting = False

    def __enter__(self) -> JobProgress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def wait(self, error: DeploymentUnreachable) -> None:
        """Say, once in a row, that the deployment does not answer at the moment."""
        if not self._waiting:
            say(f"{plain(str(error))} Trying again.")
        self._waiting = True

    def update(self, job: JobView) -> None:
        """Show the job as it now stands; without a terminal, say only when its state changes."""
        if not console.is_terminal and job.state is not self._state:
            say(f"{job.job_id} {job.state}")
        self._state, self._waiting = job.state, False
        settled = job.counts.chunks_done + job.counts.chunks_failed
        self._bars.update(
            self._task,
            description=job.state.lower().replace("_", " "),
            total=job.counts.chunks or None,
            completed=settled,
            records=job.counts.records,
        )


class _RecordRate(ProgressColumn):
    """Records per second since the job was first seen."""

    def render(self, task: Task) -> Text:
        records, seconds = task.fields.get("records", 0), task.elapsed or 0
        return Text(f"{records / seconds:,.0f} records/s" if records and seconds >= 1 else "")
