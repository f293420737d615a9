"""A paid provider as part of a world: its calls are points of the simulation, and it keeps books of its own.

The books are the calls in the history whose step is `ask`: when each came, about what and under which key, what it
was charged, and whether its answer arrived. A call is charged when it comes, whoever lives to hear the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from backhaul.providers import Answer, Provider, ProviderBusy, ProviderDenied, ProviderDown, Request, Usage
from prove.faults import Fault
from prove.functions import Functions
from prove.history import Call
from prove.surroundings import Surroundings

NAME = "acme"
MOST = Usage(20, 20)
"""What the processors say that a call takes at most."""
LEAST = Usage(10, 5)
"""The fewest tokens that a call takes."""
_REFUSAL_SECONDS = (0.02, 0.2)


@dataclass(frozen=True)
class Trouble:
    """What is wrong with the provider from one time to another, in virtual seconds; `slow`: it answers too late."""

    kind: Literal["down", "busy", "denied", "slow"]
    begins: float
    ends: float
    retry_after: float | None = None


@dataclass
class Vendor:
    """Writes in capitals what it is asked, for money."""

    world: Surroundings
    functions: Functions
    seconds: tuple[float, float] = (0.2, 1.5)
    """How long an answer takes."""
    remembers: bool = False
    """Whether it answers a key again that it has answered before, and charges nothing for that."""
    per_minute: int = 0
    """Calls that it takes; 0: any number."""
    burst: int = 1
    """Calls that it takes at once, where they are limited."""
    overruns: float = 0.0
    """Share of the calls that take three times what they should at most."""
    troubles: list[Trouble] = field(default_factory=list)
    max_texts: int = 0
    _answered: dict[str, Answer] = field(default_factory=dict)
    _next: float = 0.0
    _provider: Provider = field(init=False)

    def set_up(self, **changes: Any) -> None:
        """Let an operator set the provider up."""
        usual = {"name": NAME, "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}
        prices = {"price_input": 100, "price_output": 1000}
        self._provider = Provider(**usual | prices | changes)
        self.functions.environment().store.providers.put(self._provider, version=None, by="operator")

    def cost(self, usage: Usage) -> int:
        """Return what tokens cost, in nanodollars."""
        return self._provider.cost(usage)

    def call(self, request: Request, *, key: str | None = None, timeout: float | None = None) -> Answer:
        """Answer a question, as `backhaul.providers.Adapter` does."""
        content: str = request.messages[0].content  # type: ignore[union-attr]  # nobody here asks anything else
        simulation, network = self.world.simulation, self.world.network
        invocation = simulation.acting().context
        call = Call(0, 0.0, "", "", "Ask", "provider", "ask", content, {"key": key}, invocation.event["job_id"])
        faults = network.deliver(call)
        self._refuse(call, faults)
        answer = self._answer(call, content, key)
        seconds = simulation.random.uniform(*self.seconds) + (1000.0 if self._trouble("slow") else 0.0)
        if timeout is not None and seconds > timeout:
            simulation.sleep(timeout)
            call.outcome = "out of time"
            raise ProviderDown("out of time", may_be_paid=True)
        simulation.sleep(seconds)
        if not network.answers(call, faults):
            raise ProviderDown("connection closed", may_be_paid=True)
        call.outcome = "ok"
        return answer

    def _answer(self, call: Call, content: str, key: str | None) -> Answer:
        output = self.world.simulation.random.randrange(LEAST.output_tokens, MOST.output_tokens + 1)
        usage = Usage(LEAST.input_tokens, output)
        if self.world.simulation.random.random() < self.overruns:
            usage = Usage(3 * MOST.input_tokens, 3 * MOST.output_tokens)
        answer = Answer(content.upper(), usage)
        known = self._answered.get(key or "") if self.remembers else None
        call.outcome, call.applied = "not answered", True
        call.answer = {"charged": 0 if known else self.cost(usage)}
        if known is None and key is not None:
            self._answered[key] = answer
        return known or answer

    def _refuse(self, call: Call, faults: dict[str, Fault]) -> None:
        """Raise what the call is refused with, if it is."""
        if "refuse" in faults:
            self._say(call, faults["refuse"].code, None)
        for kind in ("denied", "down", "busy"):
            if trouble := self._trouble(kind):
                self._say(call, kind, trouble.retry_after)
        if self.per_minute:
            now, each = self.world.simulation.time, 60.0 / self.per_minute
            if self._next - now > (self.burst - 1) * each + 1e-9:
                self._say(call, "busy", self._next - now - (self.burst - 1) * each)
            self._next = max(self._next, now) + each

    def _say(self, call: Call, what: str, retry_after: float | None) -> NoReturn:
        call.outcome = what
        simulation = self.world.simulation
        simulation.sleep(simulation.random.uniform(*_REFUSAL_SECONDS))
        if what == "busy":
            raise ProviderBusy("429", retry_after)
        if what == "denied":
            raise ProviderDenied("401")
        raise ProviderDown("503", retry_after)

    def _trouble(self, kind: str) -> Trouble | None:
        now = self.world.simulation.time
        return next((each for each in self.troubles if each.kind == kind and each.begins <= now < each.ends), None)
