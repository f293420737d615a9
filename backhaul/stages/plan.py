"""Cut the input into chunks, and write the plan with one line for each shard."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Literal

from backhaul.admission.missing_shards import missing_shards
from backhaul.model import keys
from backhaul.model.errors import StoreError
from backhaul.model.job import Cause, Counts, Job, JobState, ObjectRef
from backhaul.model.outage import outages_as_unavailable
from backhaul.model.shard import MAX_CHUNKS, Shard, check_chunks, choose_chunk_bytes, plan_shards
from backhaul.model.task import RunTask
from backhaul.plugin.failure import processor_cause
from backhaul.plugin.processor import Processor
from backhaul.plugin.registry import Registry
from backhaul.reading import Chunk, Source
from backhaul.store import JobStore, ObjectStore, S3Source, ShardStore


@dataclass(frozen=True)
class Planned:
    """Whether the run has a plan, and where it is stored; `complete` means that only the merge is left to do."""

    outcome: Literal["planned", "complete", "ended"]
    plan_key: str = ""
    shards: int = 0
    chunks: int = 0


@outages_as_unavailable
def plan(task: RunTask, *, jobs: JobStore, shards: ShardStore, objects: ObjectStore, registry: Registry) -> Planned:
    """Write the run's plan; a file that the processor cannot read ends the job as FAILED.

    The first run plans the whole input, and a later run only its missing chunks. A repeat writes the same plan.
    """
    job = jobs.get(task.job)
    # The job has ended, or has begun another run, since this execution was started.
    if job.state is not JobState.RUNNING or job.run != task.run or job.input is None:
        return Planned("ended")
    # A job that was asked to stop needs no workers, and the merge ends it.
    if job.stop is not None:
        return Planned("complete")
    # A job that failed before its first plan has none, and its redrive plans the whole input.
    if job.plan is not None and job.run > 1:
        todo = missing_shards(job, only_failed=job.only_failed, shards=shards, objects=objects)
        return _write(job, todo, objects)[0] if todo else Planned("complete")
    processor = registry.create(job.processor, job.options)
    chunks = _damage(job, objects) or _split(processor, S3Source(objects, job.input))
    if isinstance(chunks, Cause):
        jobs.move(job, JobState.FAILED, cause=chunks)
        return Planned("ended")
    planned, stored = _write(job, list(plan_shards(chunks)), objects)
    jobs.note(job, plan=stored, counts=Counts(shards=planned.shards, chunks=planned.chunks))
    return planned


def _damage(job: Job, objects: ObjectStore) -> Cause | None:
    if job.input is None or job.declared_sha256 is None:
        return None
    if objects.sha256_of(job.input) == job.declared_sha256:
        return None
    return Cause("checksum_mismatch", "The upload's SHA-256 is not the declared one. Submit it again.")


def _split(processor: Processor, source: Source) -> list[Chunk] | Cause:
    chunk_bytes = processor.options.chunk_bytes or choose_chunk_bytes(source.size)
    try:
        chunks = list(islice(processor.split(source, chunk_bytes), MAX_CHUNKS + 1))
    except StoreError:
        raise
    except (Exception, SystemExit) as error:  # the processor's own code may raise any exception
        return processor_cause(error)
    fault = check_chunks(chunks, source.size)
    return chunks if fault is None else Cause("bad_split", fault)


def _write(job: Job, shards: list[Shard], objects: ObjectStore) -> tuple[Planned, ObjectRef]:
    key = keys.plan_key(job.ref, job.run)
    stored = objects.put(key, b"".join(shard.to_line() for shard in shards), content_type="application/jsonl")
    chunks = sum(len(shard.chunks) - len(shard.skip) for shard in shards)
    return Planned("planned", key, len(shards), chunks), stored
