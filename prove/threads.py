"""A worker's own threads inside the simulation: its watch is an actor too, and its signals reach the worker's actor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from typing import Any
from unittest import mock

from backhaul.flow import retry, watch
from backhaul.flow.interrupt import Interrupted, Interrupter, Reason
from prove.scheduler import Actor, Simulation


class _Lock:
    """A lock between actors."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._simulation.sleep(0.01)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class _Event:
    """An event that an actor looks at, at times."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._happened = False

    def set(self) -> None:
        self._happened = True

    def wait(self, seconds: float) -> bool:
        if not self._happened:
            self._simulation.sleep(seconds)
        return self._happened


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
    """What `backhaul.flow.watch` uses of `threading`, on the virtual clock."""

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

        def interrupt(self, reason: Reason) -> None:
            self._reason = reason
            if self._armed and not self._held and self._actor is not None:
                self.fired = True
                simulation.interrupt(self._actor, Interrupted(reason))

    return VirtualInterrupter


@contextmanager
def virtual_threads(simulation: Simulation, random: Random) -> Iterator[None]:
    """Make the workers' threads actors, and the jitter of their retries the seed's."""
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(watch, "threading", _Threads(simulation)))
        patches.enter_context(mock.patch.object(watch, "Interrupter", _interrupter(simulation)))
        patches.enter_context(mock.patch.object(watch, "LOOK_SECONDS", 1.0))  # a look costs more here than there
        patches.enter_context(mock.patch.object(retry, "_random", random))
        yield
