"""How dead letters look: a line each, one in full, or values for programs; bodies can do nothing to a terminal."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from backhaul.cli.safe import printable
from backhaul.cli.screen import age, console, plain, plain_table
from backhaul.operations.acting import ActStatus, GroupResult
from backhaul.operations.dead_letters import DeadLetter, short_ids
from backhaul.operations.reasons import MEANINGS

BODY_SHOWN = 20_000
"""Characters of a body that a terminal gets."""
WIDE = 120
"""Columns of a terminal in which a dead letter fits on one line."""
FEW = 5
"""Dead letters for which a progress bar is not worth it."""

_STYLES = {ActStatus.KEPT: "yellow", ActStatus.DISCARDED: "red"}


def listing(dead_letters: Sequence[DeadLetter]) -> Table | str:
    """Return a line for each dead letter, or two where the terminal is too narrow for one."""
    stdout = Console(file=sys.stdout)
    if stdout.is_terminal and stdout.width < WIDE:
        return _narrow(dead_letters, stdout.width)
    names = short_ids(dead_letters)
    many = any(len(dead_letter.copies) > 1 for dead_letter in dead_letters)
    chunks = any(dead_letter.chunk for dead_letter in dead_letters)
    shown = plain_table("QUEUE", "ID", "REASON", "AGE", "JOB", *["CHUNK"] * chunks, *["COPIES"] * many, "SAYS")
    for dead_letter in dead_letters:
        cells = list(_cells(dead_letter, names))
        if chunks:
            cells.append(str(dead_letter.chunk.chunk) if dead_letter.chunk else "")
        if many:
            cells.append(str(len(dead_letter.copies)))
        shown.add_row(*map(plain, cells), _cut(first_sentence(dead_letter.says)))
    for column in shown.columns[:-1]:
        column.no_wrap = True
    return shown


def _narrow(dead_letters: Sequence[DeadLetter], width: int) -> str:
    names = short_ids(dead_letters)
    rows = [("QUEUE", "ID", "REASON", "AGE", "JOB"), *(_cells(dead_letter, names) for dead_letter in dead_letters)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = [plain(line) for line in lines]
    said = ("  " + _details(dead_letter) + _line(first_sentence(dead_letter.says)) for dead_letter in dead_letters)
    below = (f"[dim]{plain(each if len(each) <= width else each[: width - 1] + '…')}[/dim]" for each in said)
    pairs = zip(lines[1:], below, strict=True)
    return "\n".join([f"[bold]{lines[0]}[/bold]", *(each for pair in pairs for each in pair)])


def _cells(dead_letter: DeadLetter, names: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    job = dead_letter.job.job_id if dead_letter.job else ""
    return dead_letter.queue, names[dead_letter.oldest.message_id], dead_letter.reason, age(dead_letter.sent_at), job


def _details(dead_letter: DeadLetter) -> str:
    found = [f"chunk {dead_letter.chunk.chunk}"] if dead_letter.chunk else []
    found += [f"{len(dead_letter.copies)} copies"] if len(dead_letter.copies) > 1 else []
    return f"{', '.join(found)}: " if found else ""


def in_full(dead_letter: DeadLetter) -> str:
    """Return everything about one dead letter: where it is, why, what was tried, and its body."""
    lines = [f"[bold]{plain(dead_letter.oldest.message_id)}[/bold]  {dead_letter.queue}"]
    lines.append(f"  {dead_letter.reason}: {MEANINGS[dead_letter.reason]}")
    lines.append(
        f"  sent {dead_letter.sent_at:%Y-%m-%d %H:%M:%S} UTC, {age(dead_letter.sent_at)} ago; {_handled(dead_letter)}"
    )
    if dead_letter.job:
        state = f", which is {dead_letter.standing.state}" if dead_letter.standing else ""
        lines.append(f"  job {plain(dead_letter.job.job_id)} of tenant {plain(dead_letter.job.tenant)}{state}")
    if chunk := dead_letter.chunk:
        record = f"; fails at byte {chunk.record:,}" if chunk.record is not None else ""
        span = f"bytes {chunk.start:,} to {chunk.end:,}"
        lines.append(f"  run {chunk.run}, shard {chunk.shard}, chunk {chunk.chunk}: {span}{record}")
        lines.append(f"  dead letter {plain(chunk.dead_letter_id)}, processor {plain(chunk.processor)}")
    lines.append(f"  {plain(_line(dead_letter.says))}")
    if dead_letter.chunk and dead_letter.chunk.cause.detail:
        lines.append(f"  {plain(_line(dead_letter.chunk.cause.detail))}")
    lines += _history(dead_letter)
    return "\n".join([*lines, "", plain(pretty(dead_letter.oldest.body))])


def pretty(body: str) -> str:
    """Return a body as a person reads it: JSON with its structure, at most 20,000 characters."""
    try:
        text = msgspec.json.format(body, indent=2)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        text = body
    text = text.replace("\r\n", "\n").expandtabs(4)
    if len(text) <= BODY_SHOWN:
        return text
    return f"{text[:BODY_SHOWN]}\n… {len(text):,} characters in all; --json writes every one of them."


def first_sentence(text: str) -> str:
    """Return a text up to the end of its first sentence."""
    return re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0]


def as_value(dead_letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter for programs, without its body."""
    return {
        "id": dead_letter.oldest.message_id,
        "message_ids": [copy.message_id for copy in dead_letter.copies],
        "queue": dead_letter.queue,
        "reason": dead_letter.reason,
        "says": dead_letter.says,
        "tenant": dead_letter.job.tenant if dead_letter.job else None,
        "job_id": dead_letter.job.job_id if dead_letter.job else None,
        "job_state": dead_letter.standing.state if dead_letter.standing else None,
        "sent_at": dead_letter.sent_at,
        "receives": dead_letter.oldest.receives,
        "copies": len(dead_letter.copies),
        "chunk": dead_letter.chunk,
    }


def outcomes(settled: GroupResult) -> Iterator[dict[str, Any]]:
    """Yield for programs what became of each dead letter."""
    for dead_letter in settled.group.dead_letters:
        yield {
            "id": dead_letter.oldest.message_id,
            "queue": dead_letter.queue,
            "dead_letter_id": dead_letter.dead_letter_id,
            "job_id": dead_letter.job.job_id if dead_letter.job else None,
            "outcome": settled.result.status,
            "said": settled.result.said,
        }


def outcome_table(done: Sequence[GroupResult], names: Mapping[str, str], *, dry_run: bool) -> Table:
    """Return a line for each act and what came of it, or would."""
    shown = plain_table("QUEUE", "ID", "LETTERS", "WOULD BE" if dry_run else "OUTCOME", "SAYS")
    for settled in done:
        dead_letters, status = settled.group.dead_letters, settled.result.status
        name = names[dead_letters[0].oldest.message_id]
        styled = Text(status, style=_STYLES.get(status, "green"))
        shown.add_row(dead_letters[0].queue, plain(name), str(len(dead_letters)), styled, plain(settled.result.said))
    for column in shown.columns[:-1]:
        column.no_wrap = True
    return shown


def summary(done: Sequence[GroupResult], *, dry_run: bool) -> str:
    """Return in a sentence what became of the dead letters, or would."""
    count = Counter[ActStatus]()
    for settled in done:
        count[settled.result.status] += len(settled.group.dead_letters)
    said = ", ".join(f"{amount:,} {'would be ' * dry_run}{status}" for status, amount in sorted(count.items()))
    return f"{said[0].upper()}{said[1:]}." + " Nothing was changed." * dry_run


@contextmanager
def progress(title: str, dead_letters: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for more than a few dead letters; yields a function that counts those that are done."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=dead_letters <= FEW or not console.is_terminal) as bars:
        task = bars.add_task(title, total=dead_letters)
        yield lambda more: bars.advance(task, more)


def _handled(dead_letter: DeadLetter) -> str:
    copies = f", {len(dead_letter.copies)} copies" if len(dead_letter.copies) > 1 else ""
    return f"received {dead_letter.oldest.receives} times{copies}"


def _history(dead_letter: DeadLetter) -> Iterator[str]:
    for each in dead_letter.chunk.tries if dead_letter.chunk else ():
        said = plain(_line(each.message))
        yield f"  attempt {each.attempt}, {each.at:%Y-%m-%d %H:%M:%S} UTC: {plain(each.code)}: {said}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> Text:
    return Text(printable(_line(text)), no_wrap=True, overflow="ellipsis")
