"""Redrives dead letters: sends each to the place where it can be handled after all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from backhaul.model.errors import JobNotEnded
from backhaul.model.job import JobRef, JobState
from backhaul.operations.acting import MAX_DEAD_LETTERS, ActResult, ActStatus, DeadLetterGroup
from backhaul.operations.connection import Operations
from backhaul.operations.contents import LostBatch
from backhaul.operations.dead_letters import DeadLetter, done_chunks
from backhaul.operations.reasons import DeadLetterReason
from backhaul.stages.announce import Change, announce
from backhaul.stages.command import Redriven, redrive
from backhaul.store import ChangeStream, EventBus, JobStore, MessageQueue, ShardStore

_OBSTACLES: Mapping[DeadLetterReason, str] = {
    DeadLetterReason.MALFORMED: "The message cannot be read, so it would come back. Look at it with "
    "`dlq show`, then discard it.",
    DeadLetterReason.UNKNOWN_JOB: "The job does not exist any more. Discard the dead letter.",
}
_TRIMMED = (
    "The stream keeps changes for 24 hours and no longer has these, so they cannot be announced. "
    "Tell the receivers of the events to read the jobs' present state, then discard the dead letter."
)


class RedriveJob(Protocol):
    """Orders a run of a job for its missing chunks; raises `JobNotEnded` while one is at work or queued."""

    def __call__(self, ref: JobRef, *, only_failed: bool) -> Redriven:
        """Order the run; with `only_failed` it leaves out chunks that were never tried."""


@dataclass(frozen=True)
class Redrive:
    """The act that sends dead letters through the pipeline again."""

    intake: MessageQueue
    redrive_job: RedriveJob
    jobs: JobStore
    shards: ShardStore
    changes: ChangeStream
    bus: EventBus
    bucket: str
    name: str = "redrive"
    keeps_body: bool = False

    def groups(self, dead_letters: Iterable[DeadLetter]) -> Iterator[DeadLetterGroup]:
        """Yield groups: the failed chunks of one job and run together, and every other dead letter on its own."""
        together: dict[object, list[DeadLetter]] = {}
        # Chunks that were never tried go first: the run ordered for them does the tried chunks as well.
        for dead_letter in sorted(dead_letters, key=_was_tried):
            key = (
                (dead_letter.job, dead_letter.chunk.run, _standing_in_the_way(dead_letter))
                if dead_letter.chunk
                else dead_letter.oldest
            )
            together.setdefault(key, []).append(dead_letter)
        for each in together.values():
            for first in range(0, len(each), MAX_DEAD_LETTERS):
                yield DeadLetterGroup(tuple(each[first : first + MAX_DEAD_LETTERS]))

    def foresee(self, group: DeadLetterGroup) -> ActResult:
        """Return the probable result of the redrive, by the dead letters alone; change nothing."""
        reason = _standing_in_the_way(group.dead_letters[0])
        if reason is None:
            return ActResult(ActStatus.REDRIVEN, group.queue.kind.foreseen)
        if reason is DeadLetterReason.RESOLVED:
            return ActResult(ActStatus.RESOLVED, "The work is already done.")
        return ActResult(ActStatus.KEPT, _OBSTACLES[reason])

    def __call__(self, group: DeadLetterGroup) -> ActResult:
        """Redrive the group and return the result."""
        foreseen = self.foresee(group)
        if foreseen.status is not ActStatus.REDRIVEN:
            return foreseen
        first = group.dead_letters[0]
        if isinstance(first.content, LostBatch):
            return self._announce(first.content)
        if first.chunk is not None:
            return self._run(JobRef(first.chunk.tenant, first.chunk.job_id), first.chunk.run, group)
        self.intake.send(first.oldest.body)
        return foreseen

    def _run(self, job: JobRef, run: int, group: DeadLetterGroup) -> ActResult:
        try:
            tried = all(map(_was_tried, group.dead_letters))
            redriven = self.redrive_job(job, only_failed=tried)
            missing = not redriven.started and self._is_missing(job, group)
            if missing and tried:  # a later run took the chunks over, but ended before it tried them
                redriven = self.redrive_job(job, only_failed=False)
        except JobNotEnded as refused:
            current = self.jobs.get(job).run
            if run < current:
                return ActResult(
                    ActStatus.REDRIVEN, f"Run {current} of the job, which has not ended, processes the missing chunks."
                )
            return ActResult(ActStatus.KEPT, str(refused))
        if redriven.started:
            return ActResult(ActStatus.REDRIVEN, f"Run {redriven.job.run} of the job processes the missing chunks.")
        if missing:
            return ActResult(
                ActStatus.KEPT,
                "A chunk is missing, but the job has nothing to run again. Look for the cause with `backhaul doctor`.",
            )
        return ActResult(ActStatus.RESOLVED, "The chunks are no longer missing.")

    def _is_missing(self, job: JobRef, group: DeadLetterGroup) -> bool:
        if self.jobs.get(job).state is JobState.SUCCEEDED:
            return False
        done = done_chunks(job, self.shards)
        return any(dead_letter.chunk and dead_letter.chunk.chunk not in done for dead_letter in group.dead_letters)

    def _announce(self, batch: LostBatch) -> ActResult:
        images = self.changes.read(batch.stretch)
        if images is None:
            return ActResult(ActStatus.KEPT, _TRIMMED)
        if announce(map(Change.of, images), bus=self.bus, bucket=self.bucket) is not None:
            return ActResult(ActStatus.KEPT, "The event bus refused an event. Try again later.")
        return ActResult(ActStatus.REDRIVEN, "The changes were announced again.")


def _standing_in_the_way(dead_letter: DeadLetter) -> DeadLetterReason | None:
    return (
        dead_letter.reason
        if dead_letter.reason is DeadLetterReason.RESOLVED or dead_letter.reason in _OBSTACLES
        else None
    )


def _was_tried(dead_letter: DeadLetter) -> bool:
    return dead_letter.chunk is not None and bool(dead_letter.chunk.tries)


def redrive_of(operations: Operations) -> Redrive:
    """Return the redrive for the dead letters of a deployment."""
    store = operations.store
    return Redrive(
        intake=operations.intake(),
        redrive_job=partial(
            redrive,
            jobs=store.jobs,
            shards=store.shards,
            objects=store.objects,
            slots=store.slots,
            runs=store.runs,
            clock=operations.clock,
        ),
        jobs=store.jobs,
        shards=store.shards,
        changes=store.changes,
        bus=store.bus,
        bucket=operations.settings.data_bucket,
    )
