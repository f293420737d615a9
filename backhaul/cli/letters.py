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

from backhaul.cli.screen import age, console, plain, plain_table
from backhaul.operations.deadletters import DeadLetter, short_ids
from backhaul.operations.reasons import MEANINGS
from backhaul.operations.settling import Fate, Settled

BODY_SHOWN = 20_000
"""Characters of a body that a terminal gets."""
WIDE = 120
"""Columns of a terminal in which a letter fits on one line."""
FEW = 5
"""Letters for which a progress bar is not worth it."""

_STYLES = {Fate.KEPT: "yellow", Fate.DISCARDED: "red"}


def listing(letters: Sequence[DeadLetter]) -> Table | str:
    """Return a line for each letter, or two where a terminal has no room for more than what tells letters apart."""
    stdout = Console(file=sys.stdout)
    if stdout.is_terminal and stdout.width < WIDE:
        return _narrow(letters, stdout.width)
    names = short_ids(letters)
    many = any(len(letter.copies) > 1 for letter in letters)
    chunks = any(letter.chunk for letter in letters)
    shown = plain_table("QUEUE", "ID", "REASON", "AGE", "JOB", *["CHUNK"] * chunks, *["COPIES"] * many, "SAYS")
    for letter in letters:
        cells = list(_cells(letter, names))
        if chunks:
            cells.append(str(letter.chunk.chunk) if letter.chunk else "")
        if many:
            cells.append(str(len(letter.copies)))
        shown.add_row(*cells, _cut(first_sentence(letter.says)))
    for column in shown.columns[:-1]:
        column.no_wrap = True
    return shown


def _narrow(letters: Sequence[DeadLetter], width: int) -> str:
    names = short_ids(letters)
    rows = [("QUEUE", "ID", "REASON", "AGE", "JOB"), *(_cells(letter, names) for letter in letters)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = ("  " + _details(letter) + _line(first_sentence(letter.says)) for letter in letters)
    below = (f"[dim]{plain(each if len(each) <= width else each[: width - 1] + '…')}[/dim]" for each in said)
    pairs = zip(lines[1:], below, strict=True)
    return "\n".join([f"[bold]{lines[0]}[/bold]", *(each for pair in pairs for each in pair)])


def _cells(letter: DeadLetter, names: Mapping[str, str]) -> tuple[str, str, str, str, str]:
    job = letter.job.job_id if letter.job else ""
    return letter.queue, names[letter.oldest.message_id], letter.reason, age(letter.sent_at), job


def _details(letter: DeadLetter) -> str:
    found = [f"chunk {letter.chunk.chunk}"] if letter.chunk else []
    found += [f"{len(letter.copies)} copies"] if len(letter.copies) > 1 else []
    return f"{', '.join(found)}: " if found else ""


def in_full(letter: DeadLetter) -> str:
    """Return everything about one letter: where it is, why, what was tried, and its body."""
    lines = [f"[bold]{letter.oldest.message_id}[/bold]  {letter.queue}"]
    lines.append(f"  {letter.reason}: {MEANINGS[letter.reason]}")
    lines.append(f"  sent {letter.sent_at:%Y-%m-%d %H:%M:%S} UTC, {age(letter.sent_at)} ago; {_handled(letter)}")
    if letter.job:
        state = f", which is {letter.standing.state}" if letter.standing else ""
        lines.append(f"  job {plain(letter.job.job_id)} of tenant {plain(letter.job.tenant)}{state}")
    if chunk := letter.chunk:
        record = f"; fails at byte {chunk.record:,}" if chunk.record is not None else ""
        span = f"bytes {chunk.start:,} to {chunk.end:,}"
        lines.append(f"  run {chunk.run}, shard {chunk.shard}, chunk {chunk.chunk}: {span}{record}")
        lines.append(f"  letter {plain(chunk.letter_id)}, processor {plain(chunk.processor)}")
    lines.append(f"  {plain(_line(letter.says))}")
    if letter.chunk and letter.chunk.cause.detail:
        lines.append(f"  {plain(_line(letter.chunk.cause.detail))}")
    lines += _history(letter)
    return "\n".join([*lines, "", plain(pretty(letter.oldest.body))])


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


def as_value(letter: DeadLetter) -> dict[str, Any]:
    """Return a letter for programs, without its body."""
    return {
        "id": letter.oldest.message_id,
        "message_ids": [copy.message_id for copy in letter.copies],
        "queue": letter.queue,
        "reason": letter.reason,
        "says": letter.says,
        "tenant": letter.job.tenant if letter.job else None,
        "job_id": letter.job.job_id if letter.job else None,
        "job_state": letter.standing.state if letter.standing else None,
        "sent_at": letter.sent_at,
        "receives": letter.oldest.receives,
        "copies": len(letter.copies),
        "chunk": letter.chunk,
    }


def outcomes(settled: Settled) -> Iterator[dict[str, Any]]:
    """Yield for programs what became of each letter."""
    for letter in settled.unit.letters:
        yield {
            "id": letter.oldest.message_id,
            "queue": letter.queue,
            "letter_id": letter.letter_id,
            "job_id": letter.job.job_id if letter.job else None,
            "outcome": settled.outcome.fate,
            "said": settled.outcome.said,
        }


def outcome_table(done: Sequence[Settled], names: Mapping[str, str], *, dry_run: bool) -> Table:
    """Return a line for each act and what came of it, or would."""
    shown = plain_table("QUEUE", "ID", "LETTERS", "WOULD BE" if dry_run else "OUTCOME", "SAYS")
    for settled in done:
        letters, fate = settled.unit.letters, settled.outcome.fate
        name = names[letters[0].oldest.message_id]
        styled = Text(fate, style=_STYLES.get(fate, "green"))
        shown.add_row(letters[0].queue, name, str(len(letters)), styled, Text.from_markup(plain(settled.outcome.said)))
    for column in shown.columns[:-1]:
        column.no_wrap = True
    return shown


def summary(done: Sequence[Settled], *, dry_run: bool) -> str:
    """Return in a sentence what became of the letters, or would."""
    count = Counter[Fate]()
    for settled in done:
        count[settled.outcome.fate] += len(settled.unit.letters)
    said = ", ".join(f"{amount:,} {'would be ' * dry_run}{fate}" for fate, amount in sorted(count.items()))
    return f"{said[0].upper()}{said[1:]}." + " Nothing was changed." * dry_run


@contextmanager
def progress(title: str, letters: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if there are more than a few letters; yields a function to tell of more that are done."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=letters <= FEW or not console.is_terminal) as bars:
        task = bars.add_task(title, total=letters)
        yield lambda more: bars.advance(task, more)


def _handled(letter: DeadLetter) -> str:
    copies = f", {len(letter.copies)} copies" if len(letter.copies) > 1 else ""
    return f"received {letter.oldest.receives} times{copies}"


def _history(letter: DeadLetter) -> Iterator[str]:
    for each in letter.chunk.attempts if letter.chunk else ():
        said = plain(_line(each.message))
        yield f"  attempt {each.attempt}, {each.at:%Y-%m-%d %H:%M:%S} UTC: {plain(each.code)}: {said}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> Text:
    shown = Text.from_markup(plain(_line(text)), overflow="ellipsis")
    shown.no_wrap = True
    return shown
