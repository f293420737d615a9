"""Handle one shard: claim it, skip what is done, run its chunks, and commit them in groups."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from backhaul.clock import Clock
from backhaul.flow.chunk_run import ChunkFault, run_chunk
from backhaul.flow.commit import GroupCommit
from backhaul.job import Job, JobState
from backhaul.reading import Window
from backhaul.registry import Registry
from backhaul.shard import ShardRecord
from backhaul.store import JobStore, ObjectStore, S3Source, ShardStore
from backhaul.task import ShardTask

TIME_KEPT_SECONDS = 5.0
"""What a worker leaves of its time for its last commit."""


@dataclass(frozen=True)
class Work:
    """What one attempt at a shard did; bytes of input."""

    processor: str
    attempt: int = 0
    is_retry: bool = False
    """Whether the attempt before this one died."""
    chunks: int = 0
    chunks_failed: int = 0
    records: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Outcome:
    """What the state machine is to do next: an outcome is a value, exceptions are for crashes.

    `done`: the shard is finished. `continue`: the time ran out, call again. `wait`: call again after
    `seconds`.
    """

    outcome: Literal["done", "continue", "wait"]
    work: Work
    seconds: int = 0


def process(
    task: ShardTask,
    *,
    jobs: JobStore,
    shards: ShardStore,
    objects: ObjectStore,
    registry: Registry,
    clock: Clock,
    remaining: Callable[[], float],
) -> Outcome:
    """Work on the shard until it is finished or `remaining()` seconds run out.

    Raises `Superseded` when a newer attempt takes the shard over, and `StoreUnavailable`.
    """
    job = jobs.get(task.job)
    if job.state is not JobState.RUNNING or job.run != task.run or job.input is None:
        return Outcome("done", Work(job.processor))
    before = shards.claim(task.job, task.shard, expires_at=job.expires_at)
    if before.finished:
        return Outcome("done", Work(job.processor, before.attempt))
    todo = [chunk for chunk in task.shard.chunks if chunk.index not in before.settled()]
    commit = GroupCommit(task.job, before, shards=shards, objects=objects, clock=clock)
    source = S3Source(objects, job.input)
    slowest = 0.0
    end = task.shard.chunks[-1].end
    with closing(Window(source, todo[0].start if todo else end, end)) as window:
        for number, chunk in enumerate(todo):
            if number and remaining() < TIME_KEPT_SECONDS + 2 * slowest:
                return Outcome("continue", _work(job, before, commit.write(handed_over=True)))
            began = clock.monotonic()
            # A processor of its own for each chunk: what one leaves behind in it never reaches another.
            result = run_chunk(registry.create(job.processor, job.options), window, chunk)
            commit.add(result.to_failed() if isinstance(result, ChunkFault) else result)
            slowest = max(slowest, clock.monotonic() - began)
    return Outcome("done", _work(job, before, commit.write(finished=True)))


def _work(job: Job, before: ShardRecord, after: ShardRecord) -> Work:
    return Work(
        job.processor,
        attempt=after.attempt,
        is_retry=after.attempt - 1 != before.handed_over,
        chunks=after.chunks_done - before.chunks_done,
        chunks_failed=len(after.failed) - len(before.failed),
        records=after.records - before.records,
        bytes=after.bytes_done - before.bytes_done,
    )
