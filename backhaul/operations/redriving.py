"""Redriving dead letters: each queue's letters go where they can be handled after all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from backhaul.errors import JobNotEnded, NotRedrivable
from backhaul.job import Job, JobRef
from backhaul.operations.connection import Operations
from backhaul.operations.contents import LostBatch, Queue
from backhaul.operations.deadletters import DeadLetter
from backhaul.operations.reasons import Reason
from backhaul.operations.settling import LETTERS_MOST, Fate, Outcome, Unit
from backhaul.stages.announce import Change, announce
from backhaul.store import ChangeStream, EventBus, JobStore, MessageQueue

_OBSTACLES: Mapping[Reason, str] = {
    Reason.MALFORMED: "Nobody can understand it, so it would come back. Look at it with `dlq show`, then discard it.",
    Reason.UNKNOWN_JOB: "Its job does not exist any more. Discard it.",
}
_FORESEEN: Mapping[Queue, str] = {
    Queue.INTAKE: "Sent to the intake queue again.",
    Queue.FAILED_CHUNKS: "A new run of the job does what is missing.",
    Queue.ANNOUNCE: "The changes are announced again.",
}
_TRIMMED = (
    "The stream keeps changes for 24 hours and has these no more, so they cannot be announced. "
    "How the jobs stand is in the jobs table; discard the letter when whoever waits for the events knows."
)


class Redriven(Protocol):
    """What redriving a job came to."""

    @property
    def job(self) -> Job:
        """The job as it now stands."""

    @property
    def chunks(self) -> int:
        """How many chunks the new run is to do; none was missing, and no run started, where it is 0."""


@dataclass(frozen=True)
class Redrive:
    """Give letters their way through the pipeline again."""

    intake: MessageQueue
    redrive_job: Callable[[JobRef], Redriven]
    """Starts a run of what is missing of a job; raises `JobNotEnded` while one is at work."""
    jobs: JobStore
    changes: ChangeStream
    bus: EventBus
    bucket: str
    name: str = "redrive"
    keeps_body: bool = False

    def units(self, letters: Iterable[DeadLetter]) -> Iterator[Unit]:
        """Yield the failed chunks of a job and run together, and every other letter on its own."""
        together: dict[object, list[DeadLetter]] = {}
        for letter in letters:
            key = (letter.job, letter.chunk.run, _standing_in_the_way(letter)) if letter.chunk else letter.oldest
            together.setdefault(key, []).append(letter)
        for each in together.values():
            for first in range(0, len(each), LETTERS_MOST):
                yield Unit(tuple(each[first : first + LETTERS_MOST]))

    def foresee(self, unit: Unit) -> Outcome:
        """Return what redriving would come to, as far as the letters tell."""
        reason = _standing_in_the_way(unit.letters[0])
        if reason is None:
            return Outcome(Fate.REDRIVEN, _FORESEEN[unit.queue])
        if reason is Reason.RESOLVED:
            return Outcome(Fate.RESOLVED, "The work has been done since.")
        return Outcome(Fate.KEPT, _OBSTACLES[reason])

    def __call__(self, unit: Unit) -> Outcome:
        """Give the letters their new home."""
        foreseen = self.foresee(unit)
        if foreseen.fate is not Fate.REDRIVEN:
            return foreseen
        first = unit.letters[0]
        if isinstance(first.content, LostBatch):
            return self._announce(first.content)
        if first.chunk is not None:
            return self._run(JobRef(first.chunk.tenant, first.chunk.job_id), first.chunk.run)
        self.intake.send(first.oldest.body)
        return foreseen

    def _run(self, job: JobRef, run: int) -> Outcome:
        try:
            redriven = self.redrive_job(job)
        except JobNotEnded as refused:
            current = self.jobs.get(job).run
            if run < current:
                return Outcome(Fate.REDRIVEN, f"Run {current} of the job, which is at work, does what is missing.")
            return Outcome(Fate.KEPT, str(refused))
        if redriven.chunks == 0:
            return Outcome(Fate.RESOLVED, "Nothing of the job is missing any more.")
        return Outcome(Fate.REDRIVEN, f"Run {redriven.job.run} of the job does what is missing.")

    def _announce(self, batch: LostBatch) -> Outcome:
        images = self.changes.read(batch.stretch)
        if images is None:
            return Outcome(Fate.KEPT, _TRIMMED)
        changes = (
            Change(image["SequenceNumber"], image.get("OldImage", {}), image.get("NewImage", {})) for image in images
        )
        if announce(changes, bus=self.bus, bucket=self.bucket) is not None:
            return Outcome(Fate.KEPT, "The event bus refused an event. Try again later.")
        return Outcome(Fate.REDRIVEN, "The changes were announced again.")


def _standing_in_the_way(letter: DeadLetter) -> Reason | None:
    return letter.reason if letter.reason is Reason.RESOLVED or letter.reason in _OBSTACLES else None


def redrive_of(operations: Operations) -> Redrive:
    """Return what redrives the letters of a deployment."""
    store = operations.store
    return Redrive(
        intake=operations.intake(),
        redrive_job=_cannot_redrive,
        jobs=store.jobs,
        changes=store.changes,
        bus=store.bus,
        bucket=operations.settings.data_bucket,
    )


def _cannot_redrive(job: JobRef) -> Redriven:
    raise NotRedrivable(f"Job {job.job_id} cannot be run again by this version.")
