"""Waking shards that wait: the rules that `park`, `wake` and the sweep have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backhaul.model.breaker import BreakerState, Phase
from backhaul.model.clock import Clock
from backhaul.model.job import Job, JobState
from backhaul.model.parking import NO_BREAKER, ParkedShard
from backhaul.store.breakers import BreakerStore
from backhaul.store.callbacks import Callbacks
from backhaul.store.waits import WaitStore

MAX_WOKEN = 200
"""How many waits one call ends at most. Its caller calls again for the rest, or the sweep ends them."""
TIMEOUT_LOST_AFTER = timedelta(seconds=5)
"""How long after a wait's time is over the sweep ends it: by then Step Functions' time-out should have done so. On the
local cloud it never does."""
UNPROBED_AFTER = timedelta(seconds=30)
"""How long a probe may be overdue before the sweep wakes another shard to make it."""


@dataclass(frozen=True)
class Waker:
    """Ends waits of parked shards. Ending one twice, or one that has ended by itself, changes nothing."""

    waits: WaitStore
    callbacks: Callbacks

    def wake(self, parked: ParkedShard) -> bool:
        """End a wait; false if it had ended already."""
        woken = self.callbacks.answer(parked.token)
        # Dropped last: a caller that dies in between leaves a token that is void, and no shard that nobody can wake.
        self.waits.drop(parked)
        return woken

    def wake_all(self, parked: Iterable[ParkedShard]) -> tuple[int, bool]:
        """End these waits, `MAX_WOKEN` at most; return how many were ended, and whether those were all."""
        woken = 0
        for number, each in enumerate(parked):
            if number == MAX_WOKEN:
                return woken, False
            woken += self.wake(each)
        return woken, True

    def wake_one(self, parked: Iterable[ParkedShard]) -> bool:
        """End one of these waits, so that its shard probes a provider; false if none of them stands."""
        return any(self.wake(each) for each in parked)


@dataclass
class WaitSweep:
    """One sweep's look at the waits: it ends those that `Waker` should have ended, and has an open breaker probed."""

    waker: Waker
    breakers: BreakerStore
    clock: Clock
    providers: set[str] = field(default_factory=set)
    """The providers for which shards of the jobs looked at so far wait."""

    def look_at(self, job: Job) -> int:
        """Wake the job's shards if the job is to stop, else those whose time is over; return how many were woken."""
        now, woken = self.clock.now(), 0
        for parked in self.waker.waits.of_job(job.ref, consistent=False):
            if is_unwanted(job, parked.run) or now - parked.until > TIMEOUT_LOST_AFTER:
                woken += self.waker.wake(parked)
            elif parked.provider:
                self.providers.add(parked.provider)
        return woken

    def look_at_provider(self, provider: str) -> int:
        """Wake all shards that wait for a breaker that has closed; if it is open and its probe overdue, wake one."""
        breaker, waits = self.breakers.get(provider, consistent=True), self.waker.waits.of_provider(provider)
        if breaker.state is Phase.CLOSED:
            return self.waker.wake_all(each for each in waits if has_closed(breaker, each))[0]
        return int(is_unprobed(breaker, self.clock.now()) and self.waker.wake_one(waits))


def is_unwanted(job: Job, run: int) -> bool:
    """Return whether the run's shards have nothing to wait for, because the run has ended or is to stop."""
    return job.state is not JobState.RUNNING or job.run != run or job.stop is not None


def has_closed(breaker: BreakerState, parked: ParkedShard) -> bool:
    """Return whether the breaker has closed since the shard's worker left."""
    return breaker.state is Phase.CLOSED and breaker.epoch > parked.epoch > NO_BREAKER


def is_unprobed(breaker: BreakerState, now: datetime) -> bool:
    """Return whether an open breaker's probe is overdue: the shard that was to make it has ended, or died."""
    due = breaker.probe_until if breaker.state is Phase.HALF_OPEN else breaker.next_probe_at
    return breaker.state is not Phase.CLOSED and due is not None and now - due > UNPROBED_AFTER
