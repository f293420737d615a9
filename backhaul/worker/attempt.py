"""One attempt at a shard, put together: the record with which it begins, and everything that works on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from backhaul.model.clock import Clock
from backhaul.model.errors import Superseded
from backhaul.model.job import Job, ObjectRef, Stop, StopKind
from backhaul.model.outage import is_outage
from backhaul.model.parking import Parking
from backhaul.model.policy import time_for_work
from backhaul.model.progress import ShardRecord, Wait
from backhaul.model.settings import Settings
from backhaul.model.task import ShardTask
from backhaul.model.waits import MAX_PARKED, MAX_UNWOKEN, OUTAGE_TRIES, OVERTAKEN_SECONDS, delay_before
from backhaul.paid.answer_cache import AnswerCache
from backhaul.paid.budget.job_budget import budget_of, stop_for
from backhaul.paid.budget.rule import Caps
from backhaul.paid.calls import PaidCalls
from backhaul.paid.channels import Channels
from backhaul.plugin.registry import Registry
from backhaul.store import S3Source, Store
from backhaul.worker.commit import GroupCommit, Tools
from backhaul.worker.in_work import InWork
from backhaul.worker.outcome import Outcome, Work
from backhaul.worker.shard_run import AttemptEnd, End, ShardRun
from backhaul.worker.watchdog import Watchdog


@dataclass(frozen=True)
class Attempt:
    """One claim of a shard, and everything that works on it."""

    job: Job
    task: ShardTask
    claimed: ShardRecord
    """The shard's record as the claim returned it: as the attempt before this one left it."""
    at_start: ShardRecord
    """The record with which this attempt begins: reopened if the run is new, with the deaths before it counted."""
    store: Store
    clock: Clock
    commit: GroupCommit
    watchdog: Watchdog
    calls: PaidCalls
    shard_run: ShardRun

    @classmethod
    def open(
        cls,
        task: ShardTask,
        job: Job,
        pinned: ObjectRef,
        *,
        store: Store,
        channels: Channels,
        registry: Registry,
        settings: Settings,
        clock: Clock,
        remaining: Callable[[], float],
    ) -> Attempt:
        """Claim the shard and return the attempt on the pinned input; it ends before `remaining()` seconds are over.

        Raises `Superseded` when a later run has the shard.
        """
        total_seconds = time_for_work(remaining())
        ends_at = clock.monotonic() + total_seconds
        if task.left:  # the shard may have been woken because a provider has changed
            store.providers.forget()
        claimed = store.shards.claim(task.job, task.shard, task.run, expires_at=job.expires_at)
        at_start = _record_at_start(claimed, task)
        in_work = InWork()
        commit = GroupCommit(job, at_start, Tools(store.shards, store.objects, store.dead_letters, clock), in_work)
        watchdog = Watchdog(job, at_start, in_work, jobs=store.jobs, shards=store.shards, clock=clock, ends_at=ends_at)
        calls = _calls_of(job, task, at_start, store, channels, settings, ends_at=ends_at, total_seconds=total_seconds)
        if claimed.handed_over == claimed.attempt - 1:  # an attempt that died, or could not write, may have used them
            calls.accept_reservations(at_start.reservations)
        shard_run = ShardRun(
            job,
            task.shard,
            S3Source(store.objects, pinned),
            in_work,
            commit=commit,
            watchdog=watchdog,
            steps=store.steps,
            calls=calls,
            registry=registry,
            clock=clock,
            ends_at=ends_at,
        )
        return cls(job, task, claimed, at_start, store, clock, commit, watchdog, calls, shard_run)

    def is_settled(self) -> bool:
        """Return whether this attempt has nothing to do.

        That is so too where the policy says `fail_fast` and a chunk has failed: then this asks the job to stop.
        """
        failed = [chunk for chunk in self.at_start.failed if chunk.run == self.job.run]
        if self.job.policy.fail_fast and failed:  # the worker that set it aside died before it could say so
            stop = Stop(StopKind.FAIL_FAST, failed[0].cause, self.clock.now())
            self.store.jobs.request_stop(self.job, stop)
            return True
        return self.at_start.finished

    def run(self) -> Outcome:
        """Work until the shard is settled or the attempt has to end, and commit; raises what no chunk is to blame for.

        What a processor raises is a value by then: an exception is a crash, an outage of a store, or `Superseded`.
        """
        with self.watchdog.running():
            end = self.shard_run.run()
            reservations = self.calls.hand_over_reservations() if end.end is not End.DONE else {}
            self.calls.settle_all()
            seconds, parking = self._parking(end)
            self.commit.hand_over(reservations, self.calls.refusals, self._wait_of(end, seconds))
            after = self.commit.write(finished=self._is_finished(), handed_over=True)
        if end.fatal is not None:
            self.store.jobs.request_stop(self.job, Stop(StopKind.FAIL_FAST, end.fatal, self.clock.now()))
        return Outcome(end.end.value, self.work(after), seconds, waits_for=end.what, parking=parking)

    def handle_error(self, error: Exception) -> Outcome:
        """Return the outcome of an attempt that an exception ended; raise a crash again, so that it is retried."""
        self.calls.try_to_settle_all()
        if isinstance(error, Superseded):
            return Outcome("wait", self.work(self.commit.stored), OVERTAKEN_SECONDS, overtaken=True)
        if not is_outage(error):
            raise error
        delay = delay_before(OUTAGE_TRIES, error, self.clock.now())
        return Outcome("wait", self.work(self.commit.stored), math.ceil(delay))

    def work(self, after: ShardRecord) -> Work:
        """Return what the attempt has done, by the shard's record as it was written last."""
        start = self.at_start
        return Work(
            self.job.processor,
            attempt=start.attempt,
            is_retry=start.retries > self.claimed.retries,
            chunks=after.chunks_done - start.chunks_done,
            chunks_failed=len(after.failed) - len(start.failed),
            records=after.records - start.records,
            bytes=after.bytes_done - start.bytes_done,
            rework=start.rework - self.claimed.rework,
            calls=self.calls.made,
            slept=round(self.calls.reservations.slept, 3),
            longest_sleep=round(self.calls.reservations.longest_sleep, 3),
        )

    def _is_finished(self) -> bool:
        settled = self.commit.settled() | self.task.shard.skip
        return all(chunk.index in settled for chunk in self.task.shard.chunks)

    def _parking(self, end: AttemptEnd) -> tuple[int, Parking | None]:
        """Return after how many seconds the shard goes on, and how it is parked until then.

        The second is None for a wait that is too short to be parked, or if the shard does not wait.
        """
        if end.end is not End.WAIT:
            return end.seconds, None
        found = self.calls.parking(end.provider, end.seconds)
        seconds = found.seconds if found.seconds < MAX_PARKED else end.seconds
        if self.job.deadline_at is not None:  # a second later, or it would come back too early to see that it is over
            left = math.ceil((self.job.deadline_at - self.clock.now()).total_seconds()) + 1
            found = replace(found, seconds=max(min(found.seconds, left), 1))
            seconds = max(min(seconds, left), 1)
        return seconds, found if found.seconds > MAX_UNWOKEN else None

    def _wait_of(self, end: AttemptEnd, seconds: int) -> Wait | None:
        return Wait(end.what, self.clock.now() + timedelta(seconds=seconds)) if end.what else None


def _record_at_start(claimed: ShardRecord, task: ShardTask) -> ShardRecord:
    """Return the record with which this attempt begins.

    A new run reopens the record. If attempts before this one ended without handing over, `retries` counts them.
    """
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


def _calls_of(
    job: Job,
    task: ShardTask,
    at_start: ShardRecord,
    store: Store,
    channels: Channels,
    settings: Settings,
    *,
    ends_at: float,
    total_seconds: float,
) -> PaidCalls:
    caps = Caps(job.policy.cap, settings.cap_per_tenant, settings.cap)
    clock = channels.clock
    return PaidCalls(
        channels,
        budget_of(job, task.shard, at_start.attempt, caps=caps, budgets=store.budgets, steps=store.steps, clock=clock),
        cache=AnswerCache(store.answers, job) if job.policy.cache else None,
        ends_at=ends_at,
        total_seconds=total_seconds,
        pause=lambda spent: store.jobs.request_stop(job, stop_for(job, spent, clock.now())),
        refusals=at_start.refusals,
    )
