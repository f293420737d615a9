"""What the parts of a simulated deployment use of the world that they are in.

The world makes the parts, so it imports them; they know it only by these protocols.
"""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from backhaul.model.settings import Settings
from backhaul.plugin.registry import Registry
from prove.history import History
from prove.network import Network
from prove.scheduler import Actor, Simulation
from prove.tables import Tables


class Invoker(Protocol):
    """Invokes the deployment's functions; `prove.functions.Functions` does."""

    def begin(self, name: str, event: dict[str, Any], *, delay: float = 0.0) -> Actor:
        """Invoke a function without waiting for it."""

    def call(self, name: str, event: dict[str, Any]) -> Any:
        """Invoke a function from an actor and return its answer; raises `FunctionFailed`."""


class Surroundings(Protocol):
    """The clock, the stores and the functions of one simulation; `prove.world.World` has them."""

    simulation: Simulation
    history: History
    tables: Tables
    network: Network
    settings: Settings
    registry: Registry
    tokens: Random
    """What random names are drawn from."""

    @property
    def functions(self) -> Invoker:
        """Every function of the deployment."""

    def computing(self, actor: Actor, record: str) -> None:
        """Let the faults in the middle of a computation happen to whoever works on this record."""

    def read(self, key: str) -> bytes:
        """Return the present version of an object, past the network."""
