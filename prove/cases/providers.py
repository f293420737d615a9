"""Providers that are busy, down or deny our key, and a table of limits, breakers and budgets that throttles."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

from backhaul.paid.breaker import breaker
from prove import orchestrator
from prove.cases.payments import PROCESSORS, RECORDS, check, death, market, submit
from prove.faults import Fault, at
from prove.history import Call
from prove.registry import Trial, case
from prove.vendor import Trouble
from prove.world import World

COOLDOWN_SECONDS = 15.0
ONE_TRY = {"max_tries": 1}
"""With this policy a job fails as soon as a record loses an attempt."""
LIMITED = {"requests_per_minute": 114}
"""95 % of what the provider takes where it is limited."""


def limit(world: World) -> None:
    """Let the provider hold to its own limit, and refuse whatever is above it."""
    world.vendor.per_minute, world.vendor.burst = 120, 8


def asked(world: World, outcome: str = "") -> list[Call]:
    """Return the calls that came to the provider, or those that it answered so."""
    return [call for call in world.history.calls if call.step == "ask" and outcome in ("", call.outcome)]


# Limits.


@case("F33.reservations", "A worker dies that holds reservations under the limit; nothing is refused.")
def dies_with_turns(trial: Trial) -> None:
    with market(trial, death(trial, trial.random.choice(("ask", "set limit"))), provider=LIMITED) as world:
        limit(world)
        check(trial, world, submit(trial, world, trial.random.choice(PROCESSORS[:2])))
        trial.expect(not asked(world, "busy"), f"the provider refused {len(asked(world, 'busy'))} calls")


@case("F35", "Calls of several workers are limited to 95 % of what the provider takes: it refuses none.")
def limited(trial: Trial) -> None:
    with market(trial, provider=LIMITED) as world:
        limit(world)
        check(trial, world, submit(trial, world, trial.random.choice(PROCESSORS[:2]), records=12))
        trial.expect(not asked(world, "busy"), f"the provider refused {len(asked(world, 'busy'))} calls")


def _storm(trial: Trial, retry_after: float | None, provider: dict[str, Any]) -> None:
    with market(trial, provider=provider) as world:
        begins = trial.random.uniform(0.0, 12.0)
        world.vendor.troubles.append(Trouble("busy", begins, begins + trial.random.uniform(10.0, 40.0), retry_after))
        check(trial, world, submit(trial, world, records=9, policy=ONE_TRY))


@case("F35.bare", "The provider answers 429 for minutes and does not say for how long; no record loses an attempt.")
def busy(trial: Trial) -> None:
    _storm(trial, None, {})


@case("F35.retry-after", "The same with Retry-After.")
def busy_for(trial: Trial) -> None:
    _storm(trial, trial.random.uniform(1.0, 60.0), {})


@case("F35.limited", "The same under a limit, which is closed for everybody meanwhile.")
def busy_and_limited(trial: Trial) -> None:
    _storm(trial, trial.random.choice((None, trial.random.uniform(1.0, 60.0))), LIMITED)


# A table that throttles.


def _on_flow(call: Call) -> bool:
    return call.function == "process" and call.target == "flow"


def _throttle(trial: Trial, provider: dict[str, Any], **policy: Any) -> None:
    code = "ProvisionedThroughputExceededException"
    with market(trial, provider=provider) as world:
        job = submit(trial, world, policy=ONE_TRY | policy)
        for _ in range(2):
            struck = Fault("refuse", _on_flow, times=10**6, code=code)
            world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(4.0, 12.0))
            world.inject(struck)
            world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(5.0, 120.0))
            world.network.faults.remove(struck)
        check(trial, world, job)


@case("F34", "The table of budgets and breakers throttles for a while: no call is made without them, and none is lost.")
def throttled(trial: Trial) -> None:
    _throttle(trial, {}, max_cost="100")


@case("F34.limited", "The same under a limit.")
def throttled_and_limited(trial: Trial) -> None:
    _throttle(trial, LIMITED)


@case("F34.burst", "One request in three to that table is refused or its answer lost, and a worker dies.")
def throttled_now_and_then(trial: Trial) -> None:
    faults = [
        Fault("refuse", _on_flow, times=30, chance=0.3, code="ThrottlingException"),
        Fault("lost", _on_flow, times=10, chance=0.1),
        death(trial, trial.random.choice(("ask", "create step", "take budget"))),
    ]
    with market(trial, *faults, provider=trial.random.choice(({}, LIMITED))) as world:
        check(trial, world, submit(trial, world))


# Outages.


def outage(trial: Trial, *faults: Fault, trouble: Any = "down", skew: float = 0.0, **terms: Any) -> None:
    """Let a job of many calls at a time meet a provider that is out of order for a while."""
    # A worker has 60 s, and a probe may take so long: less than what the provider has for a call, or more.
    with market(trial, *faults, provider={"timeout_seconds": trial.random.choice((20, 120))}) as world:
        world.functions.skew = skew
        job = submit(trial, world, "ask-many", records=12, policy=ONE_TRY)
        world.vendor.troubles.append(Trouble(trouble, 0.0, trial.random.uniform(25.0, 55.0)))
        check(trial, world, job, **terms)


@case("F36", "A dozen calls wait for a provider that is down: one at a time asks whether it is back.")
def probes(trial: Trial) -> None:
    outage(trial, cooldown_seconds=COOLDOWN_SECONDS)


@case("F36.death", "The same, and workers die around the breaker's changes, or as they ask.")
def prober_dies(trial: Trial) -> None:
    step, last = trial.random.choice((("set breaker", 4), ("ask", 20)))
    outage(trial, death(trial, step, last=last), cooldown_seconds=COOLDOWN_SECONDS)


@case("F36.lost", "The same, and answers of the breaker's table are lost or late.")
def breaker_unheard(trial: Trial) -> None:
    faults = [
        Fault("lost", at("process", "set breaker"), times=6, chance=0.3),
        Fault("pause after", at("process", "set breaker"), times=3, chance=0.3, seconds=8.0, alone=True),
    ]
    outage(trial, *faults, cooldown_seconds=COOLDOWN_SECONDS)


@case("F36.together", "The same, its table is slow, and workers come back at the same moment: one of them may ask.")
def probes_together(trial: Trial) -> None:
    slow = Fault("pause after", at("process", "read breaker"), times=10**6, chance=0.7, seconds=2.0, alone=True)
    # As in executions of a definition from before waits could be woken: each shard comes back by itself.
    with (
        mock.patch.object(breaker, "spread", lambda seconds: seconds),
        mock.patch.object(orchestrator, "MAX_UNWOKEN", math.inf),
    ):
        outage(trial, slow, cooldown_seconds=COOLDOWN_SECONDS)


@case("F36.denied", "The provider denies our key until an operator mends it: nobody goes on asking.")
def denied(trial: Trial) -> None:
    outage(trial, trouble="denied", cooldown_seconds=COOLDOWN_SECONDS)


@case(
    "F36.midway",
    "The provider goes down while it works for us: no record loses an attempt, whatever was under way.",
)
def goes_down(trial: Trial) -> None:
    with market(trial) as world:
        job = submit(trial, world, policy={"max_tries": 1})
        after = trial.random.randrange(1, RECORDS)
        world.simulation.run(lambda: len(asked(world)) >= after, longest=60.0)
        begins = world.simulation.time
        world.vendor.troubles.append(Trouble("down", begins, begins + trial.random.uniform(20.0, 50.0)))
        check(trial, world, job)
