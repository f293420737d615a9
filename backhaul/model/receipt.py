"""The receipt: how each chunk of a job ended, and what the job took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from backhaul.model.cost import Cost
from backhaul.model.job import Cause, Counts, Job, JobState, ObjectRef, StopKind
from backhaul.model.progress import FailedChunk, ShardRecord, count
from backhaul.model.shard import Shard
from backhaul.model.versions import VERSIONS, StoredRecord

SCHEMA_VERSION = VERSIONS[StoredRecord.RECEIPT]

_NO_WORKER = Cause("not_processed", "No worker finished the chunk.")


@dataclass(frozen=True)
class Checksum:
    """The checksum of all bytes of an object, as S3 writes it: in base64."""

    algorithm: str
    value: str


@dataclass(frozen=True)
class Receipt:
    """The account of a run for the job's owner: it names every missing chunk, with its byte range and cause."""

    schema_version: int
    job_id: str
    tenant: str
    state: JobState
    processor: str
    options: Mapping[str, Any]
    file_name: str
    input: ObjectRef | None
    output: ObjectRef | None
    counts: Counts
    missing: tuple[FailedChunk, ...]
    cause: Cause | None
    run: int
    created_at: datetime
    started_at: datetime | None
    merged_at: datetime
    seconds: float | None
    """How long the run took, from its start to this receipt; None if it never started."""
    cost: Cost | None = None
    """The cost of the job's calls of providers over all of its runs; None if it has no cap and made none."""
    output_checksum: Checksum | None = None

    def to_json(self) -> bytes:
        """Return the receipt as one JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"


@dataclass(frozen=True)
class Verdict:
    """How a run ended: the job's terminal state, the missing chunks, and the cause."""

    state: JobState
    counts: Counts
    missing: tuple[FailedChunk, ...]
    cause: Cause | None


def judge(job: Job, plan: Iterable[Shard], records: Mapping[int, ShardRecord]) -> Verdict:
    """Return how a run ended, from its plan and its shard records.

    The first rule that applies decides. A cancelled job is CANCELLED, however much was done. A job without a plan is
    FAILED. A job without missing chunks is SUCCEEDED. A job whose money is spent is PAUSED. A job is FAILED if
    `fail_fast` stopped it, if the processor cannot read its input, if no chunk succeeded, or if more chunks are
    missing than its policy tolerates. Any other job is PARTIAL.
    """
    shards = tuple(plan)
    untried = job.stop.cause if job.stop else _NO_WORKER
    missing = tuple(chunk for shard in shards for chunk in _missing(shard, records.get(shard.index), job.run, untried))
    chunks = sum(len(shard.chunks) for shard in shards)
    counts = count(records.values(), shards=len(shards), chunks=chunks, chunks_failed=len(missing))
    state, cause = _ending(job, missing, counts)
    return Verdict(state, counts, missing, cause)


def receipt_of(
    job: Job,
    verdict: Verdict,
    output: ObjectRef | None,
    merged_at: datetime,
    cost: Cost | None = None,
    checksum: Checksum | None = None,
) -> Receipt:
    """Return the receipt of a job that ends with this verdict."""
    return Receipt(
        schema_version=SCHEMA_VERSION,
        job_id=job.ref.job_id,
        tenant=job.ref.tenant,
        state=verdict.state,
        processor=job.processor,
        options=job.options,
        file_name=job.file_name,
        input=job.input,
        output=output,
        counts=verdict.counts,
        missing=verdict.missing,
        cause=verdict.cause,
        run=job.run,
        created_at=job.created_at,
        started_at=job.started_at,
        merged_at=merged_at,
        seconds=round((merged_at - job.started_at).total_seconds(), 3) if job.started_at else None,
        cost=cost,
        output_checksum=checksum,
    )


def _missing(shard: Shard, record: ShardRecord | None, run: int, untried: Cause) -> Iterator[FailedChunk]:
    done = record.done() if record else frozenset()
    failed = {chunk.index: chunk for chunk in record.failed} if record else {}
    otherwise = record.crash if record and record.crash else untried
    for chunk in shard.chunks:
        if chunk.index in failed:
            yield _lately(failed[chunk.index], record, run)
        elif chunk.index not in done:
            yield FailedChunk(chunk.index, chunk.start, chunk.end, otherwise, tries=0)


def _lately(chunk: FailedChunk, record: ShardRecord | None, run: int) -> FailedChunk:
    """Return the failed chunk with the cause of this run.

    A chunk that failed in an earlier run gets the crash of this run, if workers died before they tried it again.
    """
    if chunk.run == run or record is None or record.crash is None or record.crash_run != run:
        return chunk
    return replace(chunk, cause=record.crash, record=None, run=run, message_id=None)


def _ending(job: Job, missing: tuple[FailedChunk, ...], counts: Counts) -> tuple[JobState, Cause | None]:
    stop = job.stop
    # The order of these rules decides: the docstring of `judge` states it.
    if stop and stop.kind is StopKind.CANCEL:
        return JobState.CANCELLED, stop.cause
    if not counts.chunks:
        return JobState.FAILED, stop.cause if stop else Cause("not_planned", "The run ended before it had a plan.")
    if not missing:
        return JobState.SUCCEEDED, None
    if stop and stop.kind is StopKind.BUDGET:
        return JobState.PAUSED, stop.cause
    tried = [chunk.cause for chunk in missing if chunk.tries or chunk.cause.code == "worker_died"]
    if (stop and stop.kind is StopKind.FAIL_FAST) or (job.policy.fail_fast and tried):
        return JobState.FAILED, stop.cause if stop else tried[0]
    unsuitable = [chunk.cause for chunk in missing if chunk.cause.code == "unsuitable_input"]
    if unsuitable:
        return JobState.FAILED, min(unsuitable, key=lambda cause: cause.position or 0)
    first = missing[0].cause
    if counts.chunks_done == 0:
        return JobState.FAILED, first
    share = f"{len(missing)} of {counts.chunks}"
    if not job.policy.tolerates(len(missing), counts.chunks):
        message = f"{share} chunks are missing, more than the {job.policy.tolerate} that the job tolerates."
        return JobState.FAILED, Cause("too_many_missing", f"{message} The first: {first.message}", first.position)
    message = f"{share} chunks are missing; the receipt names them. The first: {first.message}"
    return JobState.PARTIAL, Cause("chunks_missing", message, first.position, first.detail)
