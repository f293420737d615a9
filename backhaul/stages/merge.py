"""Fan in: join or reduce what was committed, write the receipt, and decide how the job ends."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import groupby

from backhaul import keys
from backhaul.clock import Clock
from backhaul.errors import StoreUnavailable
from backhaul.flow.failure import Watched, only_bytes, processor_cause
from backhaul.flow.outage import told_apart
from backhaul.flow.redoing import planned_shards
from backhaul.job import Cause, Job, JobRef, JobState, ObjectRef, StopKind
from backhaul.letter import letter_of
from backhaul.processor import Context, Processor
from backhaul.progress import FailedChunk, ShardRecord, pieces_of
from backhaul.receipt import Verdict, judge, receipt_of
from backhaul.registry import Registry
from backhaul.shard import Shard
from backhaul.store import JobStore, LetterBox, ObjectStore, OutputWriter, ShardStore
from backhaul.task import RunTask

MERGE_LONGEST = timedelta(minutes=20)
"""When the sweep asks whether a merge still lives: longer than its function may run."""


@told_apart
def merge(
    task: RunTask,
    *,
    jobs: JobStore,
    shards: ShardStore,
    objects: ObjectStore,
    letters: LetterBox,
    registry: Registry,
    clock: Clock,
) -> Job:
    """End the job as it deserves and return it; a job that has ended already is left as it is.

    Only the results that shard records point to are read, never a listing: what a superseded worker
    left behind is no part of the output. Merging again writes the same output, to a key of its own.
    """
    job = jobs.get(task.job)
    if job.run != task.run or job.state.is_terminal:
        return job
    job = jobs.move(job, JobState.MERGING, due_at=clock.now() + MERGE_LONGEST)
    while job.run == task.run and job.state is JobState.MERGING:
        # Asked to stop meanwhile, it is still MERGING, and is judged again.
        plan, records = _plan_of(job, objects), {record.index: record for record in shards.all(job.ref)}
        verdict, own = judge(job, plan, records), secrets.token_hex(4)
        verdict = replace(verdict, missing=_with_letters(job, plan, verdict.missing, letters, clock))
        output, verdict = _write_output(job, verdict, _results(job.ref, records), registry, objects, own)
        receipt = receipt_of(job, verdict, output, clock.now())
        key = keys.receipt_key(job.ref, job.run, own)
        stored = objects.put(key, receipt.to_json(), content_type="application/json")
        ending = {"output": output, "receipt": stored, "counts": verdict.counts, "cause": verdict.cause}
        job = jobs.end(job, verdict.state, **ending)
    return job


def _plan_of(job: Job, objects: ObjectStore) -> list[Shard]:
    plan = planned_shards(job, objects)
    if job.plan is None or job.counts is None:
        return plan
    if sum(len(shard.chunks) for shard in plan) != job.counts.chunks:
        raise StoreUnavailable(f"The plan of job {job.ref.job_id} was not read whole.")
    return plan


def _with_letters(
    job: Job, plan: list[Shard], missing: tuple[FailedChunk, ...], letters: LetterBox, clock: Clock
) -> tuple[FailedChunk, ...]:
    """Send the letters that no worker could send: of chunks whose workers died, or died before they had."""
    if job.stop is not None and job.stop.kind is StopKind.CANCEL:
        return missing
    # What nobody tried because the job was to stop is no letter of its own: the receipt names it.
    untried_too = job.stop is None or job.stop.kind is StopKind.LOST
    shard_of = {chunk.index: shard.index for shard in plan for chunk in shard.chunks}
    return tuple(
        chunk
        if chunk.message_id or not (chunk.attempts or untried_too)
        else replace(chunk, message_id=letters.send(letter_of(job, shard_of[chunk.index], chunk, (), clock.now())))
        for chunk in missing
    )


Result = tuple[int, str, int, int]
"""Where a piece of a chunk's result lies: (chunk, key, first byte, length)."""


def _results(job: JobRef, records: Mapping[int, ShardRecord]) -> list[Result]:
    found = [
        (index, keys.result_key(job, record.index, part.attempt, part.number), start, length)
        for record in records.values()
        for index, part, start, length in pieces_of(record)
    ]
    # By chunk only: the pieces of one chunk stay in the order in which they were committed.
    return sorted(found, key=lambda result: result[0])


def _write_output(
    job: Job, verdict: Verdict, results: list[Result], registry: Registry, objects: ObjectStore, own: str
) -> tuple[ObjectRef | None, Verdict]:
    if verdict.state is JobState.FAILED or not results:
        return None, verdict
    processor = registry.create(job.processor, job.options)
    with OutputWriter(objects, keys.output_key(job.ref, job.run, own), processor.content_type) as output:
        if processor.joins_results():
            for _, key, start, length in _adjacent(results):
                output.append(key, start, length)
            return output.close(), verdict
        cause = _reduce(processor, results, objects, output)
        if cause is not None:
            output.discard()
            return None, replace(verdict, state=JobState.FAILED, cause=cause)
        return output.close(), verdict


def _reduce(processor: Processor, results: list[Result], objects: ObjectStore, output: OutputWriter) -> Cause | None:
    chunks = groupby(results, key=lambda result: result[0])
    watched = Watched(
        b"".join(objects.read(key, start, length) for _, key, start, length in pieces) for _, pieces in chunks
    )
    for piece in _pieces(processor, watched):
        if isinstance(piece, Cause):
            return piece
        output.write(piece)
    return None


def _pieces(processor: Processor, results: Watched[bytes]) -> Iterator[bytes | Cause]:
    """Yield the output, and last the cause if the processor raises; a failure to store it is not caught here."""
    try:
        yield from only_bytes(processor.merge(results, Context()), "merge")
    except (Exception, SystemExit) as error:  # the processor's own code may raise anything
        results.raise_failure()
        yield processor_cause(error)
    results.raise_failure()


def _adjacent(results: list[Result]) -> Iterator[Result]:
    """Yield the results with neighbours in one object put together, so that one copy moves them all."""
    joined: Result | None = None
    for index, key, start, length in results:
        if joined is not None and joined[1] == key and joined[2] + joined[3] == start:
            joined = (joined[0], key, joined[2], joined[3] + length)
            continue
        if joined is not None:
            yield joined
        joined = (index, key, start, length)
    if joined is not None:
        yield joined
