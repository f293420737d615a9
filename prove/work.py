"""The processors that the cases run, and what they should make of a file, worked out without the pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from backhaul import Chat, ConcurrentProcessor, Context, Lines, Message, Processor
from prove.clock import running
from prove.history import Work
from prove.vendor import MOST, NAME

POISON = "poison"
"""A record with this word in it always fails."""


def lines(random: Random, records: int) -> bytes:
    """Return an input of so many different records, all of one size, so that chunks are easy to count."""
    return b"".join(b"record %05d %08x\n" % (number, random.getrandbits(32)) for number in range(records))


RECORD_BYTES = 22
AT_ONCE = 4
"""Lines that `ask-many` asks about at the same time."""
STEPS = ("outline", "draft", "final")


class Mark(Processor):
    """Write every line in capitals, taking its virtual time."""

    name = "mark"
    reads = Lines()

    class Options(Processor.Options, frozen=True, kw_only=True):
        seconds: float = 2.0

    def process(self, record: str, ctx: Context) -> str:
        world = running()
        actor = world.simulation.current
        event = actor.context.event if actor is not None and actor.context is not None else {}
        world.history.work.append(
            Work(world.simulation.time, actor.name if actor else "?", event.get("job_id", ""), record[:12])
        )
        if actor is not None and self.options.seconds:
            world.computing(actor, record)
            world.simulation.sleep(self.options.seconds)
        if POISON in record:
            raise ValueError("this record cannot be worked on")
        ctx.tally("marked")
        return record.upper()


class Total(Mark):
    """Count the marked bytes: a processor whose merge reads every result."""

    name = "total"

    def merge(self, results: Iterator[bytes], ctx: Context) -> Iterable[bytes]:
        yield from results


def ask(question: str, ctx: Context, name: str = "") -> str:
    """Return what the paid provider answers."""
    content: str = ctx.call(NAME, Chat(messages=(Message("user", question),)), name=name, estimate=MOST).content
    return content


class AskOne(Processor):
    """Have every line written in capitals, by a provider that is paid for it."""

    name = "ask-one"
    reads = Lines()

    def process(self, record: str, ctx: Context) -> str:
        return ask(record, ctx)


class AskMany(ConcurrentProcessor):
    """The same, several lines at a time."""

    name = "ask-many"
    reads = Lines()

    class Options(ConcurrentProcessor.Options, frozen=True, kw_only=True):
        concurrency: int = AT_ONCE

    def process(self, record: str, ctx: Context) -> str:
        return ask(record, ctx)


class AskThrice(Processor):
    """The same in three steps, each of which works on the answer before."""

    name = "ask-thrice"
    reads = Lines()

    def process(self, record: str, ctx: Context) -> str:
        text = record
        for step in STEPS:
            text = ask(f"{step}: {text}", ctx, step)
        return text.rpartition(": ")[2]


def marked(data: bytes, missing: Iterable[tuple[int, int]] = ()) -> bytes:
    """Return what `mark` makes of a file, but for the records that begin in the missing byte ranges."""
    gaps = tuple(missing)
    kept, start = [], 0
    for line in data.splitlines(keepends=True):
        if not any(first <= start < end for first, end in gaps):
            kept.append(line.upper())
        start += len(line)
    return b"".join(kept)


PROCESSORS: dict[str, Any] = {each.name: each for each in (Mark, Total, AskOne, AskMany, AskThrice)}
