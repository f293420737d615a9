"""Handle one shard: claim it, skip what is done, run its chunks, and commit them in groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from backhaul.model.clock import Clock
from backhaul.model.errors import Superseded
from backhaul.model.job import Job, JobState, Stop, StopKind
from backhaul.model.outage import is_outage, outages_as_unavailable
from backhaul.model.policy import time_for_work
from backhaul.model.progress import ShardRecord, Wait
from backhaul.model.settings import Settings
from backhaul.model.task import ShardTask
from backhaul.paid.answer_cache import AnswerCache
from backhaul.paid.budget.job_budget import budget_of, stop_for
from backhaul.paid.budget.rule import Caps
from backhaul.paid.calls import PaidCalls
from backhaul.paid.channels import Channels
from backhaul.plugin.registry import Registry
from backhaul.store import (
    AnswerStore,
    BudgetStore,
    DeadLetterQueue,
    JobStore,
    ObjectStore,
    S3Source,
    ShardStore,
    StepStore,
)
from backhaul.worker.commit import GroupCommit, Tools
from backhaul.worker.retry import delay_before
from backhaul.worker.shard_run import AttemptEnd, End, ShardRun
from backhaul.worker.watchdog import Watchdog

OUTAGE_TRIES = 6
"""A worker that a store fails in the middle of its work comes back after as long as after the sixth try of a record."""
OVERTAKEN_SECONDS = 10
"""How long a worker stays away that another has overtaken: as long as that one takes to show that it is alive."""


@dataclass(frozen=True)
class Work:
    """What one attempt at a shard did; bytes of input."""

    processor: str
    attempt: int = 0
    is_retry: bool = False
    """Whether the attempt before this one died, or was broken off by an outage."""
    chunks: int = 0
    chunks_failed: int = 0
    records: int = 0
    bytes: int = 0
    rework: int = 0
    """Chunks that the attempt before this one had begun and not committed, as far as its last sign of life tells."""
    calls: int = 0
    """Calls of providers."""
    slept: float = 0.0
    """Seconds for which they waited in here for their turn, all threads together; longer waits are outside."""
    longest_sleep: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the state machine is to do next: an outcome is a value, exceptions are for crashes.

    `done`: nothing is left to do here. `continue`: the time ran out, call again. `wait`: call again after
    `seconds`. The state machine hands `work.attempt` to the next worker, who knows by it that nobody died.
    """

    outcome: Literal["done", "continue", "wait"]
    work: Work
    seconds: int = 0
    overtaken: bool = False
    """Whether another worker has the shard: whoever is called next leaves it alone while it is alive."""
    waits_for: str = ""
    """What the shard waits for, in words."""

    def to_state(self) -> dict[str, object]:
        """Return what the state machine keeps of it, and hands to the next worker."""
        return {
            "outcome": self.outcome,
            "seconds": self.seconds,
            "attempt": self.work.attempt,
            "overtaken": self.overtaken,
        }


@outages_as_unavailable
def process(
    task: ShardTask,
    *,
    jobs: JobStore,
    shards: ShardStore,
    steps: StepStore,
    objects: ObjectStore,
    dead_letters: DeadLetterQueue,
    channels: Channels,
    budgets: BudgetStore,
    answers: AnswerStore,
    settings: Settings,
    registry: Registry,
    clock: Clock,
    remaining: Callable[[], float],
) -> Outcome:
    """Work on the shard until it is finished, `remaining()` seconds run out, or the job is to stop.

    A store's outage costs what was not committed, and no chunk is blamed for it. A worker that another has overtaken,
    such as a second delivery of one call, waits for that one's end. Raises `StoreUnavailable` when the shard cannot
    even be claimed, and `Superseded` when a later run has it.
    """
    whole = time_for_work(remaining())
    end = clock.monotonic() + whole
    job = jobs.get(task.job)
    if job.state is not JobState.RUNNING or job.run != task.run or job.input is None or job.stop is not None:
        return Outcome("done", Work(job.processor))
    if task.overtaken and shards.get(task.job, task.shard.index).is_alive(clock.now()):
        return Outcome("wait", Work(job.processor, task.left), OVERTAKEN_SECONDS, overtaken=True)
    claimed = shards.claim(task.job, task.shard, task.run, expires_at=job.expires_at)
    before = _taken_up(claimed, task)
    failed = [chunk for chunk in before.failed if chunk.run == job.run]
    if job.policy.fail_fast and failed:  # the worker that set it aside died before it could say so
        jobs.request_stop(job, Stop(StopKind.FAIL_FAST, failed[0].cause, clock.now()))
        return Outcome("done", Work(job.processor, before.attempt))
    if before.finished:
        return Outcome("done", Work(job.processor, before.attempt))
    commit = GroupCommit(job, before, Tools(shards, objects, dead_letters, clock))
    watchdog = Watchdog(job, before, jobs=jobs, shards=shards, clock=clock, end=end)
    caps = Caps(job.policy.cap, settings.cap_per_tenant, settings.cap)
    calls = PaidCalls(
        channels,
        budget_of(job, task.shard, before.attempt, caps=caps, budgets=budgets, steps=steps, clock=clock),
        cache=AnswerCache(answers, job) if job.policy.cache else None,
        end=end,
        whole=whole,
        pause=lambda spent: jobs.request_stop(job, stop_for(job, spent, clock.now())),
    )
    if claimed.handed_over == claimed.attempt - 1:  # one that died, or could not write, may have used them
        calls.take_up(before.reservations)
    run = ShardRun(
        job,
        task.shard,
        S3Source(objects, job.input),
        commit=commit,
        watchdog=watchdog,
        steps=steps,
        calls=calls,
        registry=registry,
        clock=clock,
        end=end,
    )
    try:
        with watchdog.running():
            left = run.run()
            commit.put_off(calls.keep() if left.end is not End.DONE else {}, _wait(left, clock))
            calls.leave()
            after = commit.write(finished=_is_finished(commit, task), handed_over=True)
    except Exception as error:  # whatever a processor raised is a value by now
        calls.give_up()
        if isinstance(error, Superseded):
            return Outcome("wait", _work(job, claimed, before, commit.stored, calls), OVERTAKEN_SECONDS, overtaken=True)
        if not is_outage(error):
            raise
        return Outcome(
            "wait",
            _work(job, claimed, before, commit.stored, calls),
            math.ceil(delay_before(OUTAGE_TRIES, error, clock.now())),
        )
    if left.fatal is not None:
        jobs.request_stop(job, Stop(StopKind.FAIL_FAST, left.fatal, clock.now()))
    return Outcome(left.end.value, _work(job, claimed, before, after, calls), left.seconds, waits_for=left.what)


def _wait(left: AttemptEnd, clock: Clock) -> Wait | None:
    return Wait(left.what, clock.now() + timedelta(seconds=left.seconds)) if left.what else None


def _taken_up(claimed: ShardRecord, task: ShardTask) -> ShardRecord:
    """Return the record as this attempt takes it up: a new run tries again what failed, a retry counts the death."""
    record = replace(claimed.reopened(task.run), wait=None)
    if not record.died() or record.finished:
        return record
    # Those between the last one that is accounted for and this one have all died, some before they could write.
    deaths = record.attempt - 1 - max(record.counted, record.handed_over)
    return replace(
        record,
        retries=record.retries + deaths,
        rework=record.rework + record.underway,
        counted=record.attempt - 1,
        # It said itself that it left, though it could not write it: there is a retry to count, but no death.
        handed_over=record.attempt - 1 if task.left == record.attempt - 1 else record.handed_over,
    )


def _is_finished(commit: GroupCommit, task: ShardTask) -> bool:
    settled = commit.settled() | task.shard.skip
    return all(chunk.index in settled for chunk in task.shard.chunks)


def _work(job: Job, claimed: ShardRecord, before: ShardRecord, after: ShardRecord, calls: PaidCalls) -> Work:
    return Work(
        job.processor,
        attempt=before.attempt,
        is_retry=before.retries > claimed.retries,
        chunks=after.chunks_done - before.chunks_done,
        chunks_failed=len(after.failed) - len(before.failed),
        records=after.records - before.records,
        bytes=after.bytes_done - before.bytes_done,
        rework=before.rework - claimed.rework,
        calls=calls.made,
        slept=round(calls.reservations.slept, 3),
        longest_sleep=round(calls.reservations.longest_sleep, 3),
    )
