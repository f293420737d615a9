"""The functions: each invocation is an actor in an environment, warm or new, with the function's time-out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

from backhaul.paid.channels import Channels
from backhaul.store import Store
from prove.clients import clients
from prove.clock import HostClock
from prove.scheduler import Actor, Killed
from prove.surroundings import Surroundings

COLD_START_SECONDS = (0.3, 1.5)
_REFUSALS = ("Lambda.TooManyRequestsException", "Lambda.ServiceException")
"""With what Lambda invokes nothing."""


class FunctionFailed(Exception):
    """An invocation ended without an answer: Step Functions' error name and cause."""

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


@dataclass
class Environment:
    """One warm environment: what it imported and made outlives an invocation."""

    store: Store
    registry: Any
    channels: Channels
    clock: HostClock


@dataclass
class Invocation:
    """One call of a function."""

    function: str
    event: dict[str, Any]
    environment: Environment
    ends: float
    """When its time is up."""
    outlives: bool = False
    """Whether it goes on after that: a zombie, which only its caller believes dead."""


@dataclass
class Used:
    """What Lambda charges a function for."""

    invocations: int = 0
    seconds: float = 0.0
    at_work: int = 0
    """Invocations that have not ended."""


@dataclass
class Functions:
    """Every function of the deployment."""

    world: Surroundings
    handlers: dict[str, tuple[float, Callable[[Invocation, Surroundings], Any]]]
    """Name, to its time-out in seconds and what it does."""
    refusals: dict[str, float] = dataclass_field(default_factory=dict)
    """Function, to the share of its calls that are answered with 429."""
    doubled: dict[str, float] = dataclass_field(default_factory=dict)
    """Function, to the share of its calls that are delivered twice."""
    noticed_late: float = 0.3
    """Share of the deaths that the caller learns of only by the time-out: the host is gone, not the process."""
    reused: bool = True
    """Whether an environment serves more than one invocation."""
    skew: float = 0.0
    """By how many seconds a new environment's clock may be ahead or behind."""
    clocks: list[HostClock] = dataclass_field(default_factory=list)
    """Of all environments."""
    used: dict[str, Used] = dataclass_field(default_factory=dict)
    """By function."""
    _idle: dict[str, list[Environment]] = dataclass_field(default_factory=dict)
    _lent: list[Any] = dataclass_field(default_factory=list)
    _number: int = 0

    def begin(self, name: str, event: dict[str, Any], *, delay: float = 0.0) -> Actor:
        """Invoke a function without waiting for it."""
        self._number += 1
        seconds, handler = self.handlers[name]
        environment, cold = self._environment(name)
        start = self.world.simulation.random.uniform(*COLD_START_SECONDS) if cold else 0.0
        delay += start
        invocation = Invocation(name, event, environment, self.world.simulation.time + delay + seconds)

        def body() -> Any:
            used, began = self.used.setdefault(name, Used()), self.world.simulation.time - start
            used.invocations += 1
            used.at_work += 1
            try:
                answer = handler(invocation, self.world)
            except Killed:
                raise
            except BaseException:
                self._give_back(invocation)
                raise
            finally:
                used.seconds += self.world.simulation.time - began
                used.at_work -= 1
            self._give_back(invocation)
            return answer

        actor = self.world.simulation.spawn(f"{name}#{self._number}", body, delay=delay, context=invocation)
        self.world.simulation.spawn(f"watch#{self._number}", lambda: self._watch(actor, invocation), delay=delay)
        return actor

    def call(self, name: str, event: dict[str, Any]) -> Any:
        """Invoke a function from an actor and return its answer; raises `FunctionFailed`."""
        simulation = self.world.simulation
        if simulation.random.random() < self.refusals.get(name, 0.0):
            raise FunctionFailed(simulation.random.choice(_REFUSALS), "Not now.")
        if simulation.random.random() < self.doubled.get(name, 0.0):
            self.world.network.note(f"{name} is invoked twice")
            self.begin(name, event, delay=simulation.random.uniform(0.0, 30.0))
        actor = self.begin(name, event)
        simulation.wait(actor, actor.context.ends - simulation.time)
        if actor.ended and isinstance(actor.error, Killed) and simulation.random.random() < self.noticed_late:
            simulation.sleep(actor.context.ends - simulation.time)
            raise FunctionFailed("Sandbox.Timedout", f"{actor.name} did not answer in time")
        if not actor.ended:
            raise FunctionFailed("Sandbox.Timedout", f"{actor.name} did not answer in time")
        if isinstance(actor.error, Killed):
            raise FunctionFailed("Runtime.ExitError", f"{actor.name} exited without an answer")
        if actor.error is not None:
            raise FunctionFailed(type(actor.error).__name__, str(actor.error)) from actor.error
        return actor.result

    def at_work(self, name: str) -> int:
        """Return how many invocations of a function have not ended."""
        return self.used.get(name, Used()).at_work

    def close(self) -> None:
        """Give every client back."""
        for each in self._lent:
            clients().take_back(each)

    def _watch(self, actor: Actor, invocation: Invocation) -> None:
        simulation = self.world.simulation
        if not simulation.wait(actor, invocation.ends - simulation.time) and not invocation.outlives:
            self.world.network.note(f"{actor.name} is out of time")
            simulation.kill(actor)

    def _environment(self, name: str) -> tuple[Environment, bool]:
        idle = self._idle.setdefault(name, [])
        if idle and self.reused:
            return idle.pop(self.world.simulation.random.randrange(len(idle))), False
        return self.environment(), True

    def environment(self) -> Environment:
        """Return a new environment, with a store and clients of its own."""

        def client(service: str, config: Any = None, **_: Any) -> Any:
            lent = clients().lend(service, config)
            self._lent.append(lent)
            return lent.client

        world = self.world
        clock = HostClock(world.simulation)
        if self.skew:
            clock.ahead = world.simulation.random.uniform(-self.skew, self.skew)
        self.clocks.append(clock)
        store = Store(world.settings, clock, client=client)
        channels = Channels(store.providers, store.secrets, store.models, store.limits, store.breakers, clock)
        return Environment(store, world.registry, channels, clock)

    def _give_back(self, invocation: Invocation) -> None:
        self._idle[invocation.function].append(invocation.environment)


def stage(
    function: Callable[..., Any], *arguments: Any, invocation: Invocation, world: Surroundings, **options: Any
) -> Any:
    """Call a stage with what it asks for by name: its stores, the clock, the registry ..."""
    own = {
        "store": invocation.environment.store,
        "clock": invocation.environment.clock,
        "settings": world.settings,
        "bucket": world.settings.data_bucket,
        "registry": invocation.environment.registry,
        "channels": invocation.environment.channels,
        "remaining": lambda: invocation.ends - world.simulation.time,
    }
    given = {
        name: own[name] if name in own else getattr(invocation.environment.store, name)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and name not in options
        and (parameter.default is parameter.empty or name in own or hasattr(Store, name))
    }
    return function(*arguments, **given, **options)
