"""The same callers with three libraries, each used as it is documented for callers that wait for their turn.

To be fair to them:
- They share one state in memory, and read one clock, the virtual one: no skew reaches them. That is what their Redis
  scripts do that ask Redis for the time; where a library takes the caller's clock, it is better than it would be.
- A try takes the same latency as one of our writes, and is applied in the middle of it. It counts as one operation,
  whether it was allowed or not, like our refused writes; what a library asks beside it (how long to wait) is free.
- A refused caller waits for as long as the library says, and tries again: throttled-py and limits tell the time,
  pyrate-limiter adds the buffer of 50 ms that its own waiting adds. Nothing else is added, and nobody is spread.
- throttled-py gets GCRA, its smoothest, with our burst; limits gets its moving window, its strictest; pyrate-limiter
  gets what it makes of a rate by default, a sliding log.
- Calls go to the same provider, and it allows 1/0.95 of the limit to all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import limits
import limits.storage.memory
import limits.strategies
import pyrate_limiter
import throttled
import throttled.utils

from benchmarks.limits.ours import MARGIN, Result, Setting, result_of
from benchmarks.limits.world import Process, StrictProvider, World, call_seconds, latency

Try = Callable[[], float | None]
"""Tries to get a call: None if it may start, or the seconds after which to try again."""


@contextmanager
def throttled_py(world: World, rate: int) -> Iterator[Try]:
    """GCRA, with a tenth of a second's calls as its burst."""
    with patch.object(throttled.utils, "now_mono_f", lambda: world.now + 1):
        throttle = throttled.Throttled(
            key="provider",
            using=throttled.RateLimiterType.GCRA.value,
            quota=throttled.per_sec(rate, burst=max(rate // 10, 1)),
            store=throttled.MemoryStore(),
        )

        def attempt() -> float | None:
            result: Any = throttle.limit()
            return float(result.state.retry_after) if result.limited else None

        yield attempt


@contextmanager
def limits_moving_window(world: World, rate: int) -> Iterator[Try]:
    """A moving window of a second; after a refusal the caller asks when the window has room."""
    clock = SimpleNamespace(time=lambda: world.now + 1)
    quiet = SimpleNamespace(start=lambda: None, is_alive=lambda: True)  # a thread that removes what is past
    timer = SimpleNamespace(Timer=lambda *_: quiet, RLock=threading.RLock)
    with patch.object(limits.storage.memory, "time", clock), patch.object(limits.storage.memory, "threading", timer):
        storage = limits.storage.MemoryStorage()
        limiter = limits.strategies.MovingWindowRateLimiter(storage)
        item = limits.RateLimitItemPerSecond(rate)

        def attempt() -> float | None:
            if limiter.hit(item, "provider"):
                for entries in storage.events.values():
                    del entries[rate + 1 :]
                return None
            return float(max(limiter.get_window_stats(item, "provider").reset_time - clock.time(), 0.001))

        yield attempt


@contextmanager
def pyrate(world: World, rate: int) -> Iterator[Try]:
    """A sliding log of a second; its own waiting adds a buffer of 50 ms."""

    class Clock(pyrate_limiter.AbstractClock):  # type: ignore[misc, unused-ignore]
        def now(self) -> int:
            return math.floor((world.now + 1) * 1000)

    bucket: Any = pyrate_limiter.InMemoryBucket([pyrate_limiter.Rate(rate, pyrate_limiter.Duration.SECOND)])
    bucket._clock = Clock()
    factory: Any = pyrate_limiter.SingleBucketFactory(bucket, schedule_leak=False)
    limiter = pyrate_limiter.Limiter(factory)

    def attempt() -> float | None:
        item = factory.wrap_item("provider")
        if bucket.put(item):
            bucket.leak(bucket.now())
            return None
        return (max(int(bucket.waiting(item)), 0) + limiter.buffer_ms) / 1000

    yield attempt


PEERS = {"throttled-py": throttled_py, "limits": limits_moving_window, "pyrate-limiter": pyrate}


def simulate_peer(name: str, setting: Setting) -> Result:
    """Let callers that share one library's limit run for the time."""
    world = World(setting.seed)
    provider = StrictProvider(world, setting.rate / MARGIN)
    tries = [0]
    with PEERS[name](world, setting.rate) as attempt:
        for _ in range(setting.callers):
            world.resume(_thread(world, setting, attempt, tries, provider), world.random.uniform(0, setting.starting))
        world.run()
    return result_of(setting, provider, tries[0])


def _thread(world: World, setting: Setting, attempt: Try, tries: list[int], provider: StrictProvider) -> Process:
    while world.now < setting.seconds:
        there, back = latency(world, *setting.latency)
        yield there
        tries[0] += 1
        wait = attempt()
        yield back
        if wait is not None:
            yield wait
            continue
        provider.call()
        yield call_seconds(world)
