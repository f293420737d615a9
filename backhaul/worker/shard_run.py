"""One attempt at a shard: chunk after chunk, until all are settled or the attempt has to end."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from backhaul.model.clock import Clock
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import Cause, Job
from backhaul.model.progress import FailedChunk, ShardRecord, Suspect, Try
from backhaul.model.shard import Shard
from backhaul.model.transience import is_transient
from backhaul.model.waits import LONG_SECONDS, MAX_SLEEP, STAYS_AFTER, STAYS_FOR_GOOD, delay_before
from backhaul.paid.calls import PaidCalls
from backhaul.plugin.registry import Registry
from backhaul.reading import Chunk, Source, Window
from backhaul.store import StepStore
from backhaul.worker.chunk_run import ChunkFault, ChunkResult, ChunkRun
from backhaul.worker.commit import GroupCommit
from backhaul.worker.in_work import InWork
from backhaul.worker.stored_journal import StoredJournal
from backhaul.worker.tries import cause_of, deaths, try_of, with_try
from backhaul.worker.watchdog import Watchdog

MAX_DEATHS = 3
"""Workers that a chunk may take with it; fewer than the state machine retries, so that its siblings go on."""


class End(StrEnum):
    """How an attempt at a shard ends; what the state machine is told."""

    DONE = "done"
    CONTINUE = "continue"
    WAIT = "wait"


@dataclass(frozen=True)
class AttemptEnd:
    """How the attempt ended, the seconds to wait, and the chunk's failure that is to end the job, if there is one."""

    end: End
    seconds: int = 0
    fatal: Cause | None = None
    what: str = ""
    """What the shard waits for, in words."""
    provider: str = ""
    """The provider that it waits for, where it waits for one."""


@dataclass(frozen=True)
class Decision:
    """What follows from a fault: whether the chunk is settled by it, and how the attempt ends, if it ends."""

    settled: bool = False
    end: AttemptEnd | None = None


class ShardRun:
    """Works through the chunks of a shard; `ends_at` is when it must have left, on the clock's monotonic scale."""

    def __init__(
        self,
        job: Job,
        shard: Shard,
        source: Source,
        in_work: InWork,
        *,
        commit: GroupCommit,
        watchdog: Watchdog,
        steps: StepStore,
        calls: PaidCalls,
        registry: Registry,
        clock: Clock,
        ends_at: float,
    ) -> None:
        self._job = job
        self._source = source
        self._in_work = in_work
        self._commit = commit
        self._watchdog = watchdog
        self._steps = steps
        self._calls = calls
        self._registry = registry
        self._clock = clock
        self._ends_at = ends_at
        self._safe_at = clock.monotonic()
        self._slowest = 0.0
        self._progressed = False
        # What killed the worker before may kill this one: then the blame must be known, and little be lost.
        self._cautious = commit.record.died()
        settled = commit.record.settled() | shard.skip
        self._todo = [chunk for chunk in shard.chunks if chunk.index not in settled]

    def run(self) -> AttemptEnd:
        """Work until every chunk is settled, the time is up, or the job is to stop; raises `Superseded`."""
        blamed = self._blamed()
        if blamed is not None:
            self._commit.suspect(blamed)
            if deaths(blamed) >= MAX_DEATHS:
                return self._fail_after_deaths(blamed)
            self._commit.write()  # before the same may happen again
        with closing(self._window()) as window:
            for chunk in self._todo:
                end = self._settle(chunk, window)
                if end is not None:
                    return end
        self._in_work.chunk = None
        return AttemptEnd(End.DONE)

    def _window(self) -> Window:
        start = self._todo[0].start if self._todo else self._source.size
        return Window(self._source, start, self._todo[-1].end if self._todo else self._source.size)

    def _settle(self, chunk: Chunk, window: Window) -> AttemptEnd | None:
        """Try the chunk until it is settled; returns how the attempt ends if it ends before."""
        again = False
        while True:
            if self._progressed and self._leaves():
                return AttemptEnd(End.DONE if self._watchdog.is_stopping else End.CONTINUE)
            self._begin(chunk)
            journal = self._journal(chunk, again=again)
            made = self._try_chunk(chunk, window, journal)
            self._progressed |= journal.progressed
            if isinstance(made, ChunkResult):
                self._commit.add(made)
                self._progressed = True
                self._note_safe_point()
                if self._cautious or self._commit.is_due:
                    self._write()
                return None
            window.close()  # an interruption may have come in the middle of a read
            decision = self._judge(chunk, made, journal)
            if decision.settled or decision.end is not None:
                return decision.end
            again = True

    def _journal(self, chunk: Chunk, *, again: bool) -> StoredJournal:
        journal = StoredJournal(
            self._job,
            chunk,
            self._in_work,
            commit=self._commit,
            steps=self._steps,
            calls=self._calls,
            watchdog=self._watchdog,
            leaves=self._leaves,
            is_last=chunk is self._todo[-1],
        )
        if again:
            journal.forget()
        return journal

    def _begin(self, chunk: Chunk) -> None:
        self._in_work.underway += 1
        if self._cautious:
            self._watchdog.mark(chunk.index)
        self._in_work.chunk = chunk.index
        self._watchdog.check()

    def _try_chunk(self, chunk: Chunk, window: Window, journal: StoredJournal) -> ChunkResult | ChunkFault:
        # A processor of its own for each chunk: what one leaves behind in it never reaches another.
        try:
            processor = self._registry.create(self._job.processor, self._job.options)
        except (Exception, SystemExit) as error:  # the processor's own code may raise anything
            return ChunkFault(chunk, error)
        interrupter = self._watchdog.interrupter
        run = ChunkRun(processor, window, chunk, start=journal.chunk.position, journal=journal, interrupter=interrupter)
        self._in_work.run, self._in_work.is_processing = run, True
        try:
            made = run.run()
        finally:
            self._in_work.is_processing = False
        if journal.failure is not None:
            raise journal.failure
        return made

    def _judge(self, chunk: Chunk, fault: ChunkFault, journal: StoredJournal) -> Decision:
        """Decide what follows from a fault; docs/architecture.md lists every fault."""
        error = fault.error
        if isinstance(error, Interrupted) and error.reason is not InterruptReason.TOO_SLOW:
            # Nothing is wrong with the record, so no try is spent: it waits, the job is to stop, or the time is up.
            journal.save()
            self._progressed |= journal.progressed
            if error.reason in (InterruptReason.WAIT, InterruptReason.AGAIN):
                return Decision(end=self._wait(error))
            if error.reason is InterruptReason.STOP:
                self._watchdog.check()
                return Decision(end=AttemptEnd(End.DONE))
            if self._progressed:
                return Decision(end=AttemptEnd(End.CONTINUE))
        cause = cause_of(error, self._job.policy.record_seconds)
        if not isinstance(error, Interrupted) and not is_transient(error):
            # The same code would fail on the same record in the same way.
            return Decision(settled=True, end=self._fail(chunk, fault.record, cause, ()))
        journal.save()
        suspect = with_try(self._commit.record, chunk.index, fault.record, cause, self._clock.now())
        if len(suspect.tries) >= self._job.policy.max_tries:
            message = f"{cause.message} The same happened on each of {len(suspect.tries)} tries."
            often = Cause(cause.code, message, None, cause.detail)
            return Decision(settled=True, end=self._fail(chunk, fault.record, often, suspect.tries))
        self._commit.suspect(suspect)
        if isinstance(error, Interrupted):
            # A record that takes all of a worker's time is tried by a fresh worker, one that is slow by this one.
            return Decision(end=AttemptEnd(End.CONTINUE) if error.reason is InterruptReason.TIME_UP else None)
        delay = delay_before(len(suspect.tries), error, self._clock.now())
        if delay > max(MAX_SLEEP, self._max_wait_inside) or self._clock.monotonic() + delay >= self._ends_at:
            return Decision(end=AttemptEnd(End.WAIT, math.ceil(delay)))
        return Decision(end=self._wait_inside(delay))

    def _wait(self, error: Interrupted) -> AttemptEnd | None:
        """Let the shard wait for what a record waits for; return how the attempt ends, None if it goes on after that.

        The worker sleeps through a moment itself, and leaves for a longer wait.
        """
        is_brief = error.reason is InterruptReason.AGAIN or error.seconds <= self._max_wait_inside
        fits = error.seconds and self._clock.monotonic() + error.seconds < self._ends_at
        if is_brief and fits:
            return self._wait_inside(error.seconds)
        if error.reason is InterruptReason.WAIT and error.seconds:
            return AttemptEnd(End.WAIT, math.ceil(error.seconds), what=error.what, provider=error.provider)
        return AttemptEnd(End.CONTINUE)  # it takes more time than is left

    def _wait_inside(self, seconds: float) -> AttemptEnd | None:
        """Sleep inside the function; return how the attempt ends if the job is to stop meanwhile, else None."""
        if seconds > MAX_SLEEP:
            self._write()
        self._watchdog.sleep(seconds)
        self._safe_at = self._clock.monotonic()  # the wait tells nothing of how long a record takes
        return AttemptEnd(End.DONE) if self._watchdog.is_stopping else None

    @property
    def _max_wait_inside(self) -> float:
        """The longest wait, in seconds, that the worker sleeps through although it could leave; 0 for most shards.

        It grows with the number of times that the shard has left already (`STAYS_AFTER`).
        """
        waits = self._commit.record.attempt - self._commit.record.first_attempt
        if waits < STAYS_AFTER:
            return 0.0
        return LONG_SECONDS if waits < STAYS_FOR_GOOD else math.inf

    def _fail(self, chunk: Chunk, record: int | None, cause: Cause, tries: tuple[Try, ...]) -> AttemptEnd | None:
        bounds, tried = (chunk.index, chunk.start, chunk.end), max(len(tries), 1)
        failed = FailedChunk(*bounds, cause.shortened(), record, tried, run=self._job.run)
        self._commit.fail(failed, tries or (try_of(self._commit.record.attempt, self._clock.now(), cause),))
        self._progressed = True
        self._note_safe_point()
        if self._job.policy.fail_fast:
            return AttemptEnd(End.DONE, fatal=cause)
        if self._cautious or self._commit.is_due:
            self._write()
        return None

    def _fail_after_deaths(self, blamed: Suspect) -> AttemptEnd:
        """Set aside the chunk at which too many workers died; `continue` gives its siblings all retries anew."""
        (chunk,) = (each for each in self._todo if each.index == blamed.chunk)
        message = f"{deaths(blamed)} workers died while they were at this chunk."
        end = self._fail(chunk, blamed.record, Cause("worker_died", message), blamed.tries)
        return end or AttemptEnd(End.CONTINUE)

    def _blamed(self) -> Suspect | None:
        """Return the chunk at which the worker before this one died, with that death as a try, if it is known."""
        record: ShardRecord = self._commit.record
        if not record.died() or record.begun is None or all(chunk.index != record.begun for chunk in self._todo):
            return None
        died = Cause("worker_died", "The worker died while it was at this chunk.")
        return with_try(record, record.begun, None, died, record.beat_at or self._clock.now(), record.attempt - 1)

    def _leaves(self) -> bool:
        """Return whether the attempt should end at this safe point, having given a sign of life if one is due."""
        self._note_safe_point()
        self._watchdog.check()
        return self._watchdog.is_stopping or self._safe_at + 2 * self._slowest >= self._ends_at

    def _note_safe_point(self) -> None:
        now = self._clock.monotonic()
        self._slowest = max(self._slowest, now - self._safe_at)
        self._safe_at = now

    def _write(self) -> None:
        self._in_work.chunk = None
        self._commit.write()
        self._in_work.underway = 0
