"""Checks shard records against the plan, before the merge joins the results that they point to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from backhaul.model.job import Cause
from backhaul.model.progress import DROPPED, ShardRecord
from backhaul.model.shard import Shard


def unfit(shard: int, problem: str) -> Cause:
    """Return the cause with which a job fails because a shard record cannot be true; it says what to do."""
    return Cause(
        "unfit_record",
        f"The record of shard {shard} cannot be true: {problem}. No output was made of it. "
        "Submit the file again, and tell the operator, who finds the shard's record in the jobs table.",
    )


def check_records(plan: Sequence[Shard], records: Iterable[ShardRecord]) -> Cause | None:
    """Return what is wrong with the first record that does not fit the plan, or None if all fit."""
    planned, seen = {shard.index: shard for shard in plan}, set[int]()
    for record in records:
        shard = planned.get(record.index)
        if shard is None:
            return unfit(record.index, "the plan has no such shard")
        if record.index in seen:
            return unfit(record.index, "there are two of it")
        seen.add(record.index)
        if problem := next(_problems(shard, record), None):
            return unfit(record.index, problem)
    return None


def _problems(shard: Shard, record: ShardRecord) -> Iterator[str]:
    """Yield each problem of the shard's record, in words."""
    chunks = {chunk.index: chunk for chunk in shard.chunks}
    committed = [index for part in record.parts for index, _ in part.lengths if index != DROPPED]
    failed = [chunk.index for chunk in record.failed]
    named = [*committed, *failed, *([record.open.index] if record.open else [])]
    for index in named:
        if index not in chunks:
            yield f"it names chunk {index}, which the plan gives to no shard or to another"
            return
    for index in failed:
        if failed.count(index) > 1 or index in record.done():
            yield f"chunk {index} stands in it twice"
    for chunk in record.failed:
        if (chunk.start, chunk.end) != (chunks[chunk.index].start, chunks[chunk.index].end):
            yield f"chunk {chunk.index} has other bytes in it than in the plan"
    if record.open is not None and record.open.position < chunks[record.open.index].start:
        yield f"chunk {record.open.index} is at a byte before its first"
    if record.bytes_done != sum(chunks[index].end - chunks[index].start for index in record.done()):
        yield "the bytes that it counts are not those of its chunks"
    yield from _problems_of_parts(record)


def _problems_of_parts(record: ShardRecord) -> Iterator[str]:
    for before, part in pairwise(record.parts):
        if part.number <= before.number:
            yield f"part {part.number} stands in it twice, or out of order"
    for part in record.parts:
        for (index, _), (following, _) in pairwise(part.lengths):
            if index == following != DROPPED:  # a commit joins neighbouring pieces of one chunk
                yield f"chunk {index} stands twice in part {part.number}"
        if any(length < 0 for _, length in part.lengths):
            yield f"part {part.number} has a result of less than no bytes"
        if part.etag and part.size != part.length:
            yield f"the results in part {part.number} have {part.size:,} bytes, and {part.length:,} were stored"
