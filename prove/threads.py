"""A worker's own threads inside the simulation: its watch is an actor too, and its signals reach the worker's actor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from typing import Any
from unittest import mock

from backhaul.model import waits
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.paid import calls, reservations, single_flight
from backhaul.paid.breaker import breaker
from backhaul.paid.budget import budget, rule
from backhaul.paid.limit import limiter
from backhaul.plugin import ordered_threads
from backhaul.store import providers
from backhaul.worker import stored_journal, watchdog
from backhaul.worker.interrupter import Interrupter
from prove.scheduler import Actor, Simulation


class _Bell:
    """What actors wait for until another rings."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._waiting: list[Actor] = []

    def wait(self, seconds: float = math.inf) -> None:
        """Return when it rings, or after so many seconds."""
        actor = self._simulation.acting()
        self._waiting.append(actor)
        try:
            self._simulation.sleep(seconds)
        finally:
            self._waiting.remove(actor)

    def ring(self) -> None:
        """Let all who wait go on."""
        for actor in self._waiting:
            self._simulation.wake(actor)


class _Lock:
    """A lock between actors."""

    def __init__(self, simulation: Simulation) -> None:
        self._released = _Bell(simulation)
        self._held = False

    def acquire(self, blocking: bool = True) -> bool:
        while self._held and blocking:
            self._released.wait()
        taken, self._held = not self._held, True
        return taken

    def release(self) -> None:
        self._held = False
        self._released.ring()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _Event:
    """An event that actors wait for."""

    def __init__(self, simulation: Simulation) -> None:
        self._set = _Bell(simulation)
        self._happened = False

    def set(self) -> None:
        self._happened = True
        self._set.ring()

    def clear(self) -> None:
        self._happened = False

    def wait(self, seconds: float) -> bool:
        if not self._happened:
            self._set.wait(seconds)
        return self._happened


class _Future:
    """What one actor makes and others wait for."""

    def __init__(self, simulation: Simulation) -> None:
        self._made = _Event(simulation)
        self._result: Any = None
        self._error: BaseException | None = None

    def set_result(self, result: Any) -> None:
        self._result = result
        self._made.set()

    def set_exception(self, error: BaseException) -> None:
        self._error = error
        self._made.set()

    def result(self, seconds: float) -> Any:
        if not self._made.wait(seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._result


class _Thread:
    """A thread of the acting process, as an actor that lives and dies with it."""

    def __init__(
        self, simulation: Simulation, *, target: Callable[..., Any], args: tuple[Any, ...] = (), **_: object
    ) -> None:
        self._simulation = simulation
        self._body = lambda: target(*args)
        self._actors: list[Actor] = []

    def start(self) -> None:
        own = self._simulation.acting()
        self._actors.append(self._simulation.spawn(own.name, self._body, context=own.context, of=own))

    def join(self) -> None:
        for actor in self._actors:
            self._simulation.wait(actor)


class _Threads:
    """What Backhaul uses of `threading`, on the virtual clock."""

    def __init__(self, simulation: Simulation) -> None:
        self.Lock = partial(_Lock, simulation)
        self.Event = partial(_Event, simulation)
        self.Thread = partial(_Thread, simulation)


def _interrupter(simulation: Simulation) -> type[Interrupter]:
    class VirtualInterrupter(Interrupter):
        """Interrupts an actor as a signal interrupts a process."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._actor = simulation.current

        def interrupt(self, reason: InterruptReason) -> None:
            self._reason = reason
            if self._armed and not self._blocked and self._actor is not None:
                self.fired = True
                simulation.interrupt(self._actor, Interrupted(reason))

    return VirtualInterrupter


_THREADED = (
    ordered_threads,
    watchdog,
    budget,
    breaker,
    limiter,
    stored_journal,
    calls,
    reservations,
    single_flight,
    providers,
)
"""Whose threads are actors, and whose locks one may hold while it waits for a store."""
_JITTERING = (waits, rule, breaker, limiter)


@contextmanager
def virtual_threads(simulation: Simulation, random: Random) -> Iterator[None]:
    """Make the workers' threads actors, and the jitter of their retries the seed's."""
    with ExitStack() as patches:
        for module in _THREADED:
            patches.enter_context(mock.patch.object(module, "threading", _Threads(simulation)))
        for module in _JITTERING:
            patches.enter_context(mock.patch.object(module, "_random", random))
        patches.enter_context(mock.patch.object(single_flight, "Future", partial(_Future, simulation)))
        patches.enter_context(mock.patch.object(watchdog, "Interrupter", _interrupter(simulation)))
        patches.enter_context(mock.patch.object(watchdog, "LOOK_SECONDS", 1.0))  # a look costs more here than there
        yield
