"""Processors that take their time, and tell a provider where they are at work."""

import os
import time
import urllib.request
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Annotated, cast

from msgspec import Meta

from backhaul import Chunk, Context, Lines, Processor
from backhaul.reading import Source

Seconds = Annotated[float, Meta(ge=0)]


class Slow(Processor):
    """Write every line in capitals, slowly."""

    name = "slow"
    reads = Lines()

    class Options(Processor.Options, frozen=True, kw_only=True):
        seconds: Seconds = 0.1
        """For each line."""
        split_seconds: Seconds = 0.0
        merge_seconds: Seconds = 0.0
        provider: str = ""
        """Base URL of whom to tell of each record, and of each stage."""

    def split(self, source: Source, chunk_bytes: int) -> Iterable[Chunk]:
        self._ask("begin/split")
        time.sleep(self.options.split_seconds)
        return super().split(source, chunk_bytes)

    def process(self, record: str, ctx: Context) -> str:
        self._ask(f"begin/{record.split(' ')[1]}")
        time.sleep(self.options.seconds)
        ctx.tally("marked")
        return record.upper()

    def merge(self, results: Iterator[bytes], ctx: Context) -> Iterable[bytes]:
        self._ask("begin/merge")
        time.sleep(self.options.merge_seconds)
        yield from results

    def _ask(self, what: str) -> str:
        if not self.options.provider:
            return ""
        url = f"{self.options.provider}/{what}?{os.getpid()}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # on loopback, as the runner says
            return cast(bytes, answer.read()).decode()


class Paid(Slow):
    """Ask the provider twice for each line, in steps that are remembered."""

    name = "paid"

    def process(self, record: str, ctx: Context) -> str:
        number = record.split(" ")[1]
        self._ask(f"begin/{number}")
        answers = [ctx.step(name, partial(self._pay, number, name)) for name in ("first", "second")]
        return " ".join([number, *answers])

    def _pay(self, number: str, step: str) -> str:
        answer = self._ask(f"step/{number}/{step}")
        time.sleep(self.options.seconds / 2)
        return answer
