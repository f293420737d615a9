"""A virtual clock, callers that are generators, a store that answers late, and a provider that shows no mercy."""

from __future__ import annotations

import heapq
import itertools
import random
from bisect import bisect_left
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from backhaul.model.limit import SECOND, LimitState, Update, UpdateResult

BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)

Process = Generator["float | Gate", None, None]


class Gate:
    """A lock for processes, first come, first served: yield it to get it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False
        self._queue: list[Process] = []

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._queue)

    def take(self, process: Process) -> None:
        """Let the process go on as soon as the gate is free."""
        if self._held:
            self._queue.append(process)
        else:
            self._held = True
            self._world.resume(process)

    def free(self) -> None:
        """Let the next in."""
        if self._queue:
            self._world.resume(self._queue.pop(0))
        else:
            self._held = False


class World:
    """The virtual clock: processes yield the seconds that they sleep, or a gate."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311  # a simulation that can be repeated
        self._heap: list[tuple[float, int, Process]] = []
        self._count = itertools.count()

    def resume(self, process: Process, after: float = 0.0) -> None:
        """Let the process go on after so many seconds."""
        heapq.heappush(self._heap, (self.now + max(after, 0.0), next(self._count), process))

    def run(self) -> None:
        """Run until nobody has anything left to do."""
        while self._heap:
            self.now, _, process = heapq.heappop(self._heap)
            try:
                wanted = next(process)
            except StopIteration:
                continue
            if isinstance(wanted, Gate):
                wanted.take(process)
            else:
                self.resume(process, wanted)


class SkewedClock:
    """The clock of one caller, off by so many seconds."""

    def __init__(self, world: World, skew: float) -> None:
        self._world = world
        self.skew = skew
        self._booted = world.random.uniform(0, 1e6)

    def now(self) -> datetime:
        """Return the caller's time of day."""
        return BEGAN + timedelta(seconds=self._world.now + self.skew)

    def monotonic(self) -> float:
        """Return seconds since the caller's machine was started."""
        return self._booted + self._world.now

    def sleep(self, seconds: float) -> None:
        """Nobody sleeps but by yielding."""
        raise NotImplementedError


class MemoryLimits:
    """The item of one provider in memory, with DynamoDB's conditions; counts every write, refused ones too."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0, *, witness: bool = True) -> None:
        self._now = now
        self._witness = witness
        self.state: LimitState | None = None
        self.writes = 0

    def update(self, provider: str, update: Update) -> UpdateResult:  # noqa: ARG002  # there is one
        """Apply the update if its conditions hold."""
        self.writes += 1
        before, after = self.state, update.apply(self.state)
        if after:
            self.state = after
        seconds = int(BEGAN.timestamp() + self._now())
        return UpdateResult(after is not None, before, seconds * SECOND if self._witness else None)


@dataclass
class StrictProvider:
    """A token bucket of so many calls a second that holds one second's calls, or `bucket` of them."""

    world: World
    rate: float
    bucket: float = 0.0
    starts: list[float] = field(default_factory=list)
    refused: int = 0
    deepest: float = 0.0
    """How many calls the fullest bucket would have had to hold for nothing to be refused."""

    def __post_init__(self) -> None:
        self.bucket = self.bucket or self.rate
        self._level, self._at, self._demand = self.bucket, 0.0, 0.0

    def call(self) -> bool:
        """Take one call; false is a 429."""
        elapsed, self._at = self.world.now - self._at, self.world.now
        self.starts.append(self.world.now)
        self._demand = max(self._demand - elapsed * self.rate, 0.0) + 1
        self.deepest = max(self.deepest, self._demand)
        self._level = min(self._level + elapsed * self.rate, self.bucket)
        if self._level < 1:
            self.refused += 1
            return False
        self._level -= 1
        return True

    def started(self, start: float, end: float) -> int:
        """Return how many calls began in the time."""
        return bisect_left(self.starts, end) - bisect_left(self.starts, start)

    def fullest_second(self, since: float, until: float) -> int:
        """Return the calls of the second in which most began."""
        starts = self.starts[bisect_left(self.starts, since) : bisect_left(self.starts, until)]
        return max((bisect_left(starts, at + 1.0) - number for number, at in enumerate(starts)), default=0)


def latency(world: World, middle: float, spread: float) -> tuple[float, float]:
    """Return the seconds to the store and back: together `middle` give or take `spread`, split at random."""
    whole = world.random.uniform(middle - spread, middle + spread)
    there = whole * world.random.uniform(0.3, 0.7)
    return there, whole - there


def call_seconds(world: World) -> float:
    """Return how long a call to the provider takes."""
    return world.random.uniform(0.02, 0.1)


def nothing(*_: Any) -> None:
    """Do nothing."""
