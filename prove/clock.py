"""Which world is running: what the processors and the patched parts of Python ask."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from prove.scheduler import Simulation
from prove.surroundings import Surroundings

_running: list[Surroundings] = []


@dataclass
class HostClock:
    """One host's clock: its time of day may be wrong, and jump; what it measures is right."""

    simulation: Simulation
    ahead: float = 0.0
    """Seconds."""

    def now(self) -> datetime:
        """Return the time of day, in UTC, as the host takes it to be."""
        return self.simulation.now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        """Return virtual seconds since the simulation began."""
        return self.simulation.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass while others run."""
        self.simulation.sleep(seconds)


def running() -> Surroundings:
    """Return the world whose actors run in this process."""
    return _running[-1]


@contextmanager
def virtual(world: Surroundings) -> Iterator[None]:
    """Make sleeping virtual and every random number the seed's, inside the block."""
    real_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if world.simulation.current is None:
            real_sleep(seconds)
        else:
            world.simulation.sleep(seconds)

    def token_hex(size: int | None = None) -> str:
        return f"{tokens.getrandbits(8 * (size or 32)):0{2 * (size or 32)}x}"

    tokens: Any = random.Random(world.simulation.random.random())  # a test's choices
    random.seed(world.simulation.random.random())  # the jitter of botocore's retries
    _running.append(world)
    world.tokens = tokens
    with (
        mock.patch.object(time, "sleep", sleep),
        mock.patch.object(secrets, "token_hex", token_hex),
        mock.patch.object(secrets, "randbits", lambda bits: tokens.getrandbits(bits)),
    ):
        try:
            yield
        finally:
            _running.remove(world)
