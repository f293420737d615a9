"""Callers that use our own limiter, its code and its rule, on the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

from backhaul.model.limit import Rate, Refusal, Reservation
from backhaul.paid.limit import limiter as limiter_module
from backhaul.paid.limit.limiter import Limiter
from backhaul.paid.limit.shared_clock import NEAR
from benchmarks.limits.world import (
    Gate,
    MemoryLimits,
    Process,
    SkewedClock,
    StrictProvider,
    World,
    call_seconds,
    latency,
)

MARGIN = 0.95
"""Our limit, as a part of what the provider allows."""
STARTING = 0.05
"""Callers start within so many seconds of one another: everybody at once, as far as that is possible."""


@dataclass(frozen=True)
class Setting:
    """One row: so many callers, calls a second, the store's latency, how far clocks are apart, and calls a lease."""

    callers: int
    rate: int
    latency: tuple[float, float]
    skew: float = 0.0
    lease: int = 1
    seconds: float = 60.0
    starting: float = STARTING
    near: int = NEAR
    visits: bool = False
    """Whether each reservation is made by a new process, as by workers that left to wait."""
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What came of a row."""

    utilisation: float
    fullest: int
    """Calls in the fullest second."""
    refused: float
    """The share of calls that the provider refused."""
    writes: float
    """For each call."""
    bucket: float
    """How many calls a provider's bucket must hold for nothing to be refused."""


def result_of(setting: Setting, provider: StrictProvider, writes: int, settled: float = 0.0) -> Result:
    """Return what a provider saw and a store counted; the fullest second is looked for after `settled` seconds."""
    calls = len(provider.starts)
    return Result(
        provider.started(0, setting.seconds) / (setting.rate * setting.seconds),
        provider.fullest_second(settled, setting.seconds),
        provider.refused / calls,
        writes / calls,
        provider.deepest,
    )


def simulate(setting: Setting) -> Result:
    """Let callers with more to do than the limit allows run for the time, and then do what they have reserved."""
    world = World(setting.seed)
    store = MemoryLimits(lambda: world.now)
    provider = StrictProvider(world, setting.rate / MARGIN)
    rate = Rate(requests=setting.rate * 60)

    def limiter() -> Limiter:
        clock = SkewedClock(world, world.random.uniform(-setting.skew, setting.skew))
        return Limiter("provider", rate, store, clock, lease=setting.lease, near=setting.near)

    for _ in range(setting.callers):
        begins = world.random.uniform(0, setting.starting)
        process, gate = limiter(), Gate(world)
        for _ in range(setting.lease):
            make = limiter if setting.visits else lambda process=process: process
            world.resume(_thread(world, setting, make, gate, store, provider), begins)
    with patch.object(limiter_module, "_random", world.random):  # so that every run says the same
        world.run()
    return result_of(setting, provider, store.writes, 3.0 if setting.skew else 0.0)


def _thread(
    world: World,
    setting: Setting,
    limiter_of: Callable[[], Limiter],
    gate: Gate,
    store: MemoryLimits,
    provider: StrictProvider,
) -> Process:
    limiter = limiter_of()
    while world.now < setting.seconds or limiter.lease:
        yield gate
        limiter = limiter_of()
        steps = limiter.asking(waiting=gate.waiting + 1 if setting.lease > 1 else 1)
        try:
            update = next(steps)
            while True:
                there, back = latency(world, *setting.latency)
                yield there
                answer = store.update("provider", update)
                yield back
                update = steps.send(answer)
        except StopIteration as end:
            said: Reservation | Refusal = end.value
        gate.free()
        if isinstance(said, Refusal):
            yield said.seconds
            continue
        yield limiter.seconds_until(said)
        provider.call()
        yield call_seconds(world)
