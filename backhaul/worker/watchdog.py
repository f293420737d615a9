"""A worker's watchdog: it gives signs of life, keeps time limits, and learns whether the job has to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backhaul.model.clock import Clock
from backhaul.model.errors import JobNotFound, Superseded
from backhaul.model.interruption import InterruptReason
from backhaul.model.job import Job, JobState
from backhaul.model.progress import ShardRecord
from backhaul.store import JobStore, ShardStore
from backhaul.worker.in_work import InWork
from backhaul.worker.interrupter import Interrupter

BEAT_SECONDS = 10.0
"""How often a worker gives a sign of life and asks whether the job has to stop."""
LOOK_SECONDS = 0.25
"""How often the watchdog looks at the clock: the precision of a record's time limit."""
DOZE_SECONDS = 2.0
"""How long a waiting worker sleeps before it looks again whether the job has to stop."""
GRACE_SECONDS = 3.0
"""How long a processor has to reach its next checkpoint once the job has to stop."""


class Watchdog:
    """Watches one attempt at a shard, from a thread of its own and whenever the worker calls it.

    `ends_at` is when the worker's time is up, in monotonic seconds. `failure` is the `Superseded` that a sign of life
    met.
    """

    def __init__(
        self,
        job: Job,
        record: ShardRecord,
        in_work: InWork,
        *,
        jobs: JobStore,
        shards: ShardStore,
        clock: Clock,
        ends_at: float,
    ) -> None:
        self._in_work = in_work
        self._job = job
        self._record = record
        self._jobs = jobs
        self._shards = shards
        self._clock = clock
        self._ends_at = ends_at
        self._beaten = clock.monotonic()
        self._beating = threading.Lock()
        self._stopping: float | None = None
        self._timed_record: tuple[object, float] = (None, 0.0)
        """The record in work, and when the watchdog first saw it (monotonic seconds): its time limit begins there."""
        self.interrupter = Interrupter(lambda: self._reason(clock.monotonic()))
        self.failure: Superseded | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether the worker has to commit and leave: the job has to stop, or another worker holds the shard."""
        return self._stopping is not None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch from a thread until the block ends."""
        over = threading.Event()
        thread = threading.Thread(target=self._keep_watch, args=(over,), name="watch", daemon=True)
        with self.interrupter.installed():
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    def check(self) -> None:
        """Give a sign of life if one is due; raises `Superseded` if another worker holds the shard."""
        if self._clock.monotonic() - self._beaten >= BEAT_SECONDS:
            self.beat()
        if self.failure is not None:
            raise self.failure

    def sleep(self, seconds: float) -> None:
        """Wait for `seconds`, or until the job has to stop; raises `Superseded` if another worker holds the shard."""
        while seconds > 0 and not self.is_stopping:
            self._clock.sleep(min(seconds, DOZE_SECONDS))
            seconds -= DOZE_SECONDS
            self.check()

    def mark(self, chunk: int) -> None:
        """Store the chunk's number before the worker begins it, so that the next attempt knows where a worker died."""
        self._in_work.chunk = chunk
        self.beat()
        self.check()

    def beat(self) -> None:
        """Give a sign of life, and learn whether the job has to stop."""
        with self._beating:
            self._beaten = self._clock.monotonic()
            try:
                self._shards.beat(
                    self._job.ref, self._record, begun=self._in_work.chunk, underway=self._in_work.underway
                )
                # The cheap read may be old, from before the job ran or existed. Only a consistent one stops a worker.
                if not self._goes_on(consistent=False) and not self._goes_on(consistent=True):
                    self._stop()
            except Superseded as error:
                self.failure = error
                self._stop()

    def _goes_on(self, *, consistent: bool) -> bool:
        try:
            job = self._jobs.get(self._job.ref, consistent=consistent)
        except JobNotFound:
            return False
        return job.state is JobState.RUNNING and job.run == self._job.run and job.stop is None

    def _stop(self) -> None:
        if self._stopping is None:
            self._stopping = self._clock.monotonic()

    def _keep_watch(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            self.interrupter.restart_timer()
            now = self._clock.monotonic()
            if now - self._beaten >= BEAT_SECONDS:
                self._try_to_beat()
            reason = self._reason(now)
            if reason is not None:
                self.interrupter.interrupt(reason)

    def _try_to_beat(self) -> None:
        with suppress(Exception):  # the next sign of life makes up for a lost one
            self.beat()

    def _reason(self, now: float) -> InterruptReason | None:
        """Return why the watchdog must end the processor's code now, or None if it need not."""
        if self._stopping is not None and now - self._stopping >= GRACE_SECONDS:
            return InterruptReason.STOP
        if now >= self._ends_at:
            return InterruptReason.TIME_UP
        record = self._in_work.record_identity()
        if record != self._timed_record[0]:
            self._timed_record = (record, now)
        elif record is not None and now - self._timed_record[1] >= self._job.policy.record_seconds:
            return InterruptReason.TOO_SLOW
        return None
