"""Fan in: join or reduce the committed results, write the receipt, and decide how the job ends."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

from backhaul.admission.missing_shards import planned_shards
from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.dead_letter import dead_letter_of
from backhaul.model.errors import DamagedResult, StoreUnavailable
from backhaul.model.job import Cause, Job, JobRef, JobState, ObjectRef, StopKind
from backhaul.model.outage import outages_as_unavailable
from backhaul.model.progress import FailedChunk, ShardRecord, pieces_of
from backhaul.model.receipt import Checksum, Verdict, judge, receipt_of
from backhaul.model.shard import Shard
from backhaul.model.task import RunTask
from backhaul.paid.budget.job_budget import cost_of, settle_dead_holds
from backhaul.plugin.context import Context
from backhaul.plugin.failure import Watched, only_bytes, processor_cause
from backhaul.plugin.processor import Processor
from backhaul.plugin.registry import Registry
from backhaul.store import BudgetStore, DeadLetterQueue, JobStore, ObjectStore, OutputWriter, ShardStore, StepStore
from backhaul.store.objects import CHECKSUM
from backhaul.worker.record_check import check_records, unfit

MAX_MERGE = timedelta(minutes=20)
"""After this time the sweep asks whether a merge still runs. It is longer than the merge's function may run."""
READ_BYTES = 16 * 1024**2
"""Bytes of results that a reduction reads with one request to S3."""


@outages_as_unavailable
def merge(
    task: RunTask,
    *,
    jobs: JobStore,
    shards: ShardStore,
    steps: StepStore,
    objects: ObjectStore,
    dead_letters: DeadLetterQueue,
    budgets: BudgetStore,
    registry: Registry,
    clock: Clock,
) -> Job:
    """Write the output and the receipt, end the job, and return it; a job that has ended already is left as it is.

    Only results that shard records point to are read, never a listing, so that files of a superseded worker do not
    become output. A second merge writes the same output to another key. Raises `StoreUnavailable`, also if the budgets
    cannot be read, because a receipt without the cost would be wrong.
    """
    job = jobs.get(task.job)
    if job.run != task.run or job.state.is_terminal:
        return job
    job = jobs.move(job, JobState.MERGING, due_at=clock.now() + MAX_MERGE)
    sent: dict[int, str] = {}
    while job.run == task.run and job.state is JobState.MERGING:
        # A job that was asked to stop after it was read is still MERGING, and its end is decided again.
        plan, stored_records = _plan_of(job, objects), list(shards.all(job.ref))
        records = {record.index: record for record in stored_records}
        # The holds come first: if they cannot be settled, no output was written that the next try would write again.
        cost = cost_of(settle_dead_holds(job, plan, budgets=budgets, steps=steps, clock=clock), job.policy.cap)
        verdict, own = judge(job, plan, records), secrets.token_hex(4)
        if plan and (cause := check_records(plan, stored_records)):
            verdict = replace(verdict, state=JobState.FAILED, cause=cause)
        verdict = replace(verdict, missing=_with_dead_letters(job, plan, verdict.missing, dead_letters, clock, sent))
        output, checksum, verdict = _write_output(job, verdict, _results(job.ref, records), registry, objects, own)
        receipt = receipt_of(job, verdict, output, clock.now(), cost, checksum)
        key = keys.receipt_key(job.ref, job.run, own)
        stored = objects.put(key, receipt.to_json(), content_type="application/json")
        ending = {"output": output, "receipt": stored, "counts": verdict.counts, "cause": verdict.cause}
        job = jobs.end(job, verdict.state, cost=cost, **ending)
    return job


def _plan_of(job: Job, objects: ObjectStore) -> list[Shard]:
    plan = planned_shards(job, objects)
    if job.plan is None or job.counts is None:
        return plan
    # If part of the plan were missed, an output without those chunks would look complete.
    if sum(len(shard.chunks) for shard in plan) != job.counts.chunks:
        raise StoreUnavailable(f"The plan of job {job.ref.job_id} was not read whole.")
    return plan


def _with_dead_letters(
    job: Job,
    plan: list[Shard],
    missing: tuple[FailedChunk, ...],
    dead_letters: DeadLetterQueue,
    clock: Clock,
    sent: dict[int, str],
) -> tuple[FailedChunk, ...]:
    """Send the dead letters of chunks whose workers died or which the run did not reach.

    A dead letter of an earlier run does not count, because the operator who redrove it has deleted it. `sent` holds the
    message ID of each chunk, so that none is sent again when the job's end is decided again.
    """
    shard_of = {chunk.index: shard.index for shard in plan for chunk in shard.chunks}
    for chunk in missing if job.stop is None or job.stop.kind is not StopKind.CANCEL else ():
        # A chunk that no worker tried because the job had to stop needs no dead letter: the receipt names it.
        is_news = chunk.tries or job.stop is None or job.stop.kind is StopKind.LOST
        if is_news and not (chunk.message_id and chunk.run == job.run) and chunk.index not in sent:
            sent[chunk.index] = dead_letters.send(dead_letter_of(job, shard_of[chunk.index], chunk, (), clock.now()))
    return tuple(replace(chunk, message_id=sent.get(chunk.index, chunk.message_id)) for chunk in missing)


class Result(NamedTuple):
    """A piece of a chunk's result: a range of bytes of an object, and the entity tag that the object must have."""

    chunk: int
    key: str
    start: int
    length: int
    etag: str
    shard: int


def _results(job: JobRef, records: Mapping[int, ShardRecord]) -> list[Result]:
    found = [
        Result(
            index,
            keys.result_key(job, record.index, part.attempt, part.number),
            start,
            length,
            part.etag,
            record.index,
        )
        for record in records.values()
        for index, part, start, length in pieces_of(record)
    ]
    # Sorted by chunk only, so that the pieces of one chunk stay in the order in which they were committed.
    return sorted(found, key=lambda result: result.chunk)


def _write_output(
    job: Job, verdict: Verdict, results: list[Result], registry: Registry, objects: ObjectStore, own: str
) -> tuple[ObjectRef | None, Checksum | None, Verdict]:
    if verdict.state is JobState.FAILED or not results:
        return None, None, verdict
    processor = registry.create(job.processor, job.options)
    try:
        with OutputWriter(objects, keys.output_key(job.ref, job.run, own), processor.content_type) as output:
            cause = _join(processor, results, objects, output)
            if cause is None:
                return output.close(), Checksum(CHECKSUM, output.crc32), verdict
            output.discard()
    except DamagedResult as error:
        shard = next(result.shard for result in results if result.key == error.key)
        cause = unfit(shard, f"the object {error.key} is gone, or is not the one that was stored")
    return None, None, replace(verdict, state=JobState.FAILED, cause=cause)


def _join(processor: Processor, results: list[Result], objects: ObjectStore, output: OutputWriter) -> Cause | None:
    if not processor.joins_results():
        return _reduce(processor, results, objects, output)
    for pieces in _stretches(results, math.inf):
        output.append(*_span(pieces))
    return None


def _reduce(processor: Processor, results: list[Result], objects: ObjectStore, output: OutputWriter) -> Cause | None:
    chunks = groupby(_read(results, objects), key=lambda piece: piece[0])
    watched = Watched(b"".join(body for _, body in pieces) for _, pieces in chunks)
    for piece in _pieces(processor, watched):
        if isinstance(piece, Cause):
            return piece
        output.write(piece)
    return None


def _pieces(processor: Processor, results: Watched[bytes]) -> Iterator[bytes | Cause]:
    """Yield the output's pieces; if the processor raises, the last one is the cause. Errors of the store are raised."""
    try:
        yield from only_bytes(processor.merge(results, Context()), "merge")
    except (Exception, SystemExit) as error:  # the processor's own code may raise any exception
        results.raise_failure()
        yield processor_cause(error)
    results.raise_failure()


def _read(results: list[Result], objects: ObjectStore) -> Iterator[tuple[int, bytes]]:
    """Yield (chunk, piece of its result); one request reads a whole stretch of pieces."""
    for pieces in _stretches(results, READ_BYTES):
        key, first, length, etag = _span(pieces)
        body = objects.read(key, first, length, etag)
        for piece in pieces:
            yield piece.chunk, body[piece.start - first : piece.start - first + piece.length]


def _stretches(results: list[Result], largest: float) -> Iterator[list[Result]]:
    """Yield groups of adjacent pieces of one object, up to `largest` bytes, which one request can read or copy."""
    pieces: list[Result] = []
    for result in results:
        if pieces:
            held, first, size, _ = _span(pieces)
            if (held, first + size) == (result.key, result.start) and size + result.length <= largest:
                pieces.append(result)
                continue
            yield pieces
        pieces = [result]
    if pieces:
        yield pieces


def _span(pieces: list[Result]) -> tuple[str, int, int, str]:
    """Return (key, first byte, length, entity tag) of a group of adjacent pieces."""
    first, last = pieces[0], pieces[-1]
    return first.key, first.start, last.start + last.length - first.start, first.etag
