"""Handle one shard: claim it, skip what is done, run its chunks, and commit them in groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from backhaul.clock import Clock
from backhaul.flow.commit import GroupCommit, Tools
from backhaul.flow.shard_run import ShardRun
from backhaul.flow.watch import Watch
from backhaul.job import Job, JobState, Stop, StopKind
from backhaul.progress import ShardRecord
from backhaul.registry import Registry
from backhaul.store import JobStore, LetterBox, ObjectStore, S3Source, ShardStore, StepStore
from backhaul.task import ShardTask

TIME_KEPT_SECONDS = 5.0
"""What a worker leaves of its time for its last commit, but never more than a tenth of it."""


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
    rework: int = 0
    """Chunks that the attempt before this one had begun and not committed, as far as its last sign of life tells."""


@dataclass(frozen=True)
class Outcome:
    """What the state machine is to do next: an outcome is a value, exceptions are for crashes.

    `done`: nothing is left to do here. `continue`: the time ran out, call again. `wait`: call again after
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
    steps: StepStore,
    objects: ObjectStore,
    letters: LetterBox,
    registry: Registry,
    clock: Clock,
    remaining: Callable[[], float],
) -> Outcome:
    """Work on the shard until it is finished, `remaining()` seconds run out, or the job is to stop.

    Raises `Superseded` when a newer attempt takes the shard over, and `StoreUnavailable`.
    """
    time_left = remaining()
    end = clock.monotonic() + time_left - min(TIME_KEPT_SECONDS, time_left / 10)
    job = jobs.get(task.job)
    if job.state is not JobState.RUNNING or job.run != task.run or job.input is None or job.stop is not None:
        return Outcome("done", Work(job.processor))
    before = _taken_up(shards.claim(task.job, task.shard, task.run, expires_at=job.expires_at), task.run)
    failed = [chunk for chunk in before.failed if chunk.run == job.run]
    if job.policy.fail_fast and failed:  # the worker that set it aside died before it could say so
        jobs.request_stop(job, Stop(StopKind.FAIL_FAST, failed[0].cause, clock.now()))
        return Outcome("done", Work(job.processor, before.attempt))
    if before.finished:
        return Outcome("done", Work(job.processor, before.attempt))
    commit = GroupCommit(job, before, Tools(shards, objects, letters, clock))
    watch = Watch(job, before, jobs=jobs, shards=shards, clock=clock, end=end)
    run = ShardRun(
        job,
        task.shard,
        S3Source(objects, job.input),
        commit=commit,
        watch=watch,
        steps=steps,
        registry=registry,
        clock=clock,
        end=end,
    )
    with watch.running():
        left = run.run()
        after = commit.write(finished=_is_finished(commit, task), handed_over=True)
    if left.fatal is not None:
        jobs.request_stop(job, Stop(StopKind.FAIL_FAST, left.fatal, clock.now()))
    return Outcome(left.end.value, _work(job, before, after), left.seconds)


def _taken_up(claimed: ShardRecord, run: int) -> ShardRecord:
    """Return the record as this attempt takes it up: a new run tries again what failed, a retry counts the death."""
    record = claimed.reopened(run)
    if not record.died() or record.finished:
        return record
    # Those between the last one that is accounted for and this one have all died, some before they could write.
    deaths = record.attempt - 1 - max(record.counted, record.handed_over)
    return replace(
        record,
        retries=record.retries + deaths,
        rework=record.rework + record.underway,
        counted=record.attempt - 1,
    )


def _is_finished(commit: GroupCommit, task: ShardTask) -> bool:
    settled = commit.settled() | task.shard.skip
    return all(chunk.index in settled for chunk in task.shard.chunks)


def _work(job: Job, before: ShardRecord, after: ShardRecord) -> Work:
    return Work(
        job.processor,
        attempt=after.attempt,
        is_retry=before.died(),
        chunks=after.chunks_done - before.chunks_done,
        chunks_failed=len(after.failed) - len(before.failed),
        records=after.records - before.records,
        bytes=after.bytes_done - before.bytes_done,
        rework=before.underway if before.died() else 0,
    )
