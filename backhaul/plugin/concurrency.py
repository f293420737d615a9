"""The processor for records that wait for something else, alone or several with one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Annotated, Any

import msgspec

from backhaul.model.errors import InvalidProcessor, Permanent
from backhaul.plugin.context import Context, RecordCursor
from backhaul.plugin.ordered_threads import OrderedThreads
from backhaul.plugin.processor import Processor
from backhaul.reading import Record


class ConcurrentProcessor(Processor):
    """A processor whose records wait for something else, such as an API: `process` runs in threads, several at once.

    Results keep the input's order. What `process` changes outside of its own variables it must lock.
    """

    group: int = 1
    """How many consecutive records of a chunk `process_group` gets at a time; an instance may choose."""

    class Options(Processor.Options, frozen=True, kw_only=True):
        concurrency: Annotated[
            int, msgspec.Meta(ge=1, le=64, description="Records (or groups of them) in work at a time in each worker.")
        ] = 8

    def process_group(self, records: Sequence[Any], ctx: Context) -> Sequence[Any]:
        """Return what becomes of each of several records that share a call, in order; None drops one.

        It gets two or more, the same ones on every repetition. If it raises `Permanent`, `process` gets them one by
        one, so that a record nobody will answer costs no others.
        """
        raise NotImplementedError(f"{type(self).__name__} sets group, and does not override process_group")

    def process_chunk(self, records: Iterator[Record], ctx: Context) -> Iterator[bytes]:
        """Yield the results of the records in order, each as soon as all before it are there."""
        cursor = RecordCursor.of(ctx)
        threads: OrderedThreads[_Group, Sequence[Any]] = OrderedThreads(self.options.concurrency, self._work)
        # A checkpoint is only ever at a group's end, so whoever goes on from it finds the same groups.
        groups = (_Group(several, cursor) for several in iter(lambda: list(islice(records, self.group)), []))
        with closing(threads.in_order(groups, lambda group: cursor.waits_for(group.at))) as done:
            for group, values in done:
                for record, value in zip(group.records, values, strict=True):
                    if value is not None:
                        yield self.reads.encode(value, record)
                for name, amount in group.tallies():
                    ctx.tally(name, amount)
                cursor.end_records(group.records[-1], len(group.records))

    def _work(self, group: _Group) -> Sequence[Any]:
        records = group.records
        if len(records) == 1:
            return [self.process(records[0].value, group.begin(records[0]))]
        try:
            made = self.process_group([record.value for record in records], group.begin(records[0]))
        except Permanent:
            return [self.process(record.value, group.begin(record)) for record in records]
        if len(made) != len(records):
            raise InvalidProcessor(f"process_group returned {len(made)} results for {len(records)} records.")
        return made


class _Group:
    """Consecutive records in another thread."""

    def __init__(self, records: list[Record], cursor: RecordCursor) -> None:
        self.records = records
        self.at = records[0]
        """Which of them is in work: each has its own time."""
        self._chunk = cursor
        self._begun: list[RecordCursor] = []

    def begin(self, record: Record) -> Context:
        self.at = record
        cursor = self._chunk.for_thread(record)
        self._begun.append(cursor)
        return Context(cursor)

    def tallies(self) -> Iterator[tuple[str, int]]:
        for cursor in self._begun:
            yield from cursor.tallies.items()
