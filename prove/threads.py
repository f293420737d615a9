"""A worker's own threads inside the simulation: its watch is an actor too, and its signals reach the worker's actor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any
from unittest import mock

from backhaul.flow import retry, watch
from backhaul.flow.interrupt import Interrupted, Interrupter, Reason
from prove.scheduler import Actor, Simulation


class _Threads:
    """What `backhaul.flow.watch` uses of `threading`, on the virtual clock."""

    def __init__(self, simulation: Simulation) -> None:
        simulated = simulation

        class Lock:
            def __init__(self) -> None:
                self.held = False

            def __enter__(self) -> None:
                while self.held:
                    simulated.sleep(0.01)
                self.held = True

            def __exit__(self, *_: object) -> None:
                self.held = False

        class Event:
            def __init__(self) -> None:
                self.happened = False

            def set(self) -> None:
                self.happened = True

            def wait(self, seconds: float) -> bool:
                if not self.happened:
                    simulated.sleep(seconds)
                return self.happened

        class Thread:
            def __init__(self, *, target: Callable[..., Any], args: tuple[Any, ...], **_: Any) -> None:
                self.body = lambda: target(*args)
                self.actor: Actor | None = None

            def start(self) -> None:
                own = simulated.current
                assert own is not None
                self.actor = simulated.spawn(own.name, self.body, context=own.context, of=own)

            def join(self) -> None:
                assert self.actor is not None
                simulated.wait(self.actor)

        self.Lock, self.Event, self.Thread = Lock, Event, Thread


def _interrupter(simulation: Simulation) -> type[Interrupter]:
    class VirtualInterrupter(Interrupter):
        """Interrupts an actor as a signal interrupts a process."""

        def __init__(self) -> None:
            super().__init__()
            self._actor = simulation.current

        @contextmanager
        def armed(self) -> Iterator[None]:
            self._reason, self._armed = None, True
            try:
                yield
            finally:
                self._armed = False

        def interrupt(self, reason: Reason) -> None:
            self._reason = reason
            if self._armed and self._actor is not None:
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
