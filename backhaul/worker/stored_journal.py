"""The journal behind a processor's context in a worker: it stores answers of steps and commits checkpoints."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from backhaul.model.errors import InvalidProcessor, OperatorError, WorkError
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import Job
from backhaul.model.progress import OpenChunk
from backhaul.paid.calls import Paid, PaidCalls
from backhaul.plugin.journal import Journal, NoJournal, Step
from backhaul.providers import Answer, Request, Usage
from backhaul.reading import Chunk
from backhaul.store import StepStore
from backhaul.store.steps import Price
from backhaul.worker.chunk_run import ChunkRun
from backhaul.worker.commit import GroupCommit
from backhaul.worker.in_work import InWork
from backhaul.worker.watchdog import Watchdog

MAX_STATE = 64 * 1024
"""The most bytes of state, as JSON, that a processor may keep between checkpoints: the shard's record holds it."""


class StoredJournal:
    """The journal of one try at a chunk in a worker; it gives results up to a safe point to `GroupCommit`."""

    def __init__(
        self,
        job: Job,
        chunk: Chunk,
        in_work: InWork,
        *,
        commit: GroupCommit,
        steps: StepStore,
        calls: PaidCalls,
        watchdog: Watchdog,
        leaves: Callable[[], bool],
        is_last: bool,
    ) -> None:
        """`leaves` returns whether the attempt should end at a checkpoint; `is_last` says that no chunk comes after."""
        self._in_work = in_work
        self._leaves = leaves
        self._is_last = is_last
        self._job = job
        self._commit = commit
        self._steps = steps
        self._calls = calls
        self._watchdog = watchdog
        held = commit.record.open
        self.chunk = held if held and held.index == chunk.index else OpenChunk(chunk.index, chunk.start)
        """The chunk as it was last committed."""
        self._start, self._from, self._end = chunk.start, self.chunk.position, chunk.end
        self.state: Any = msgspec.json.decode(self.chunk.state) if self.chunk.state else None
        suspect = commit.record.suspect
        tried = commit.record.attempt > 1 or (suspect is not None and suspect.chunk == chunk.index)
        self._answers: dict[Step, bytes] | None = None if tried else {}
        self._kept: str | None = self.chunk.state
        self.progressed = False
        """Whether the try has stored anything that a later attempt need not do again."""
        self.failure: Exception | None = None
        """The exception that the store raised while the processor's code was at work."""
        self._ended = 0
        self._asked: Counter[str | tuple[str, int]] = Counter()
        self._generation = calls.begin()
        self._recalling = threading.Lock()

    def recall(self, step: Step) -> bytes | None:
        """Return the stored answer of a step, or None; only a chunk that was tried before can have one."""
        with self._uninterrupted():
            return self.look_up(step)

    def keep(self, step: Step, answer: bytes) -> bytes:
        """Store a step's answer; return the answer that counts, since another worker may have stored one first."""
        with self._uninterrupted():
            return self.store(step, answer)

    def forget(self) -> None:
        """Read the stored answers anew at the next step, because this worker has stored some in an earlier try."""
        self._answers = None

    def look_up(self, step: Step) -> bytes | None:
        """Do what `recall` does, in any thread."""
        with self._recalling:
            answers = self._answers  # a copy: another thread may reset the attribute meanwhile
            if answers is None:
                answers = self._answers = self._steps.recall(
                    self._job.ref, self.chunk.index, start=self._start, position=self.chunk.position
                )
            return answers.get(step)

    def ask(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:
        """Return a provider's answer, stored or new; no interruption cuts a call off, because it is paid for."""
        with self._uninterrupted():
            return self.obtain(step, provider, request, estimate)

    def obtain(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:
        """Do what `ask` does, in any thread."""
        stored = self.look_up(step)
        if stored is None:
            job, chunk = self._job, self.chunk.index
            call = msgspec.json.encode([job.ref.tenant, job.ref.job_id, chunk, *step])
            key = hashlib.sha256(call).hexdigest()[:32]

            def keep(made: Paid) -> bytes:
                price = Price(self._commit.record.attempt, made.cost, made.estimate)
                return self.store(step, msgspec.json.encode(made.answer), price)

            stored = self._calls.ask(
                provider,
                request,
                key=key,
                generation=self._generation,
                keep=keep,
                estimate=estimate,
                further_calls=self._further_calls(provider, step[0]),
            )
            self.progressed = True
        return Answer.from_stored(stored)

    def _further_calls(self, provider: str, record: int) -> float:
        """Return an estimate of how many calls of the provider the chunk's remaining records need.

        It extends the calls per byte so far to the bytes that are left, without limit if other chunks follow. A record
        that asked several times may go on to do so: its number of calls is the least that is returned.
        """
        with self._recalling:
            asked = self._asked[provider, record]
            self._asked.update([provider, (provider, record)])
        begun = self._run.records.position
        left = self._end - begun if self._is_last else math.inf
        return max(self._asked[provider] * max(left, 0) / max(begun - self._from, 1), asked)

    def store(self, step: Step, answer: bytes, price: Price | None = None) -> bytes:
        """Do what `keep` does, in any thread."""
        self.progressed = True
        job = self._job
        kept = self._steps.keep(job.ref, self.chunk.index, step, answer, expires_at=job.expires_at, price=price)
        if kept != answer:
            self._answers = None  # another worker is at this chunk too: read its answers, to pay no call twice
        return kept

    def checkpoint(self, state: Any, position: int | None = None, records: int = 1) -> None:
        """Record a safe point, commit it if a commit is due, and end the attempt here if it has to leave.

        `position` is the byte up to which the chunk is done, by default the end of the last record read. `records` is
        how many records were done since the last checkpoint; without a position it is counted.
        """
        run = self._run
        if position is None:
            position, self._ended = run.records.position, run.records.count
        else:
            self._ended += records
        kept = _encoded(state)
        interrupter = self._watchdog.interrupter
        # What `_uninterrupted` does, written out: every record comes here, and a context manager costs as much again.
        interrupter.block()
        try:
            interrupter.reraise()  # the processor may have caught an interruption: nothing after that is safe
            self._kept, self.state = kept, state
            run.mark_safe(position, self._ended)
            leaves = self._leaves()
            if leaves or self._commit.is_due:
                self.save()
                self._commit.write()
                self._in_work.underway = 1
        except Exception as error:
            self.failure = error
            raise
        finally:
            interrupter.unblock()
        if leaves:
            raise Interrupted(InterruptReason.STOP if self._watchdog.is_stopping else InterruptReason.TIME_UP)

    def waits_for(self, start: int) -> None:
        """Record the first record that is not done, by its byte offset: the watchdog checks its time limit."""
        self._run.first = start

    def for_thread(self) -> Journal:
        """Return a journal for a record that another thread works on; no signal interrupts that thread."""
        return _ThreadJournal(self)

    def save(self) -> None:
        """Gather the chunk's results up to the last safe point for the next commit."""
        taken = self._run.take()
        moved = taken.position != self.chunk.position or self._kept != self.chunk.state
        if not (moved or taken.body or taken.records or taken.tallies):
            return
        self.progressed = True
        self._commit.add_open_chunk(self.chunk, taken, self._kept)
        if self._commit.record.open is not None:
            self.chunk = self._commit.record.open

    @property
    def _run(self) -> ChunkRun:
        if self._in_work.run is None:
            raise RuntimeError("A journal is asked only once a try at its chunk has begun.")
        return self._in_work.run

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Delay interruption while the worker writes, and remember a failure: the processor is not to blame for it."""
        self._watchdog.interrupter.block()
        try:
            with self.noting():
                yield
        finally:
            self._watchdog.interrupter.unblock()

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Remember an exception of the store; an error of a provider or of its settings is the record's own failure."""
        try:
            yield
        except (WorkError, OperatorError):
            raise
        except Exception as error:
            self.failure = error
            raise


class _ThreadJournal(NoJournal):
    """The journal of a record in another thread; there too, the processor is not to blame for the store's failures."""

    def __init__(self, journal: StoredJournal) -> None:
        self._journal = journal

    def recall(self, step: Step) -> bytes | None:
        """Return the stored answer of a step."""
        with self._journal.noting():
            return self._journal.look_up(step)

    def keep(self, step: Step, answer: bytes) -> bytes:
        """Store a step's answer."""
        with self._journal.noting():
            return self._journal.store(step, answer)

    def ask(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:
        """Return a provider's answer, stored or new."""
        with self._journal.noting():
            return self._journal.obtain(step, provider, request, estimate)


def _encoded(state: Any) -> str | None:
    if state is None:
        return None
    try:
        text = msgspec.json.encode(state)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidProcessor(f"the state of a checkpoint cannot be written as JSON: {error}.") from error
    if len(text) > MAX_STATE:
        raise InvalidProcessor(f"the state of a checkpoint takes {len(text):,} bytes; {MAX_STATE:,} are allowed.")
    return text.decode()
