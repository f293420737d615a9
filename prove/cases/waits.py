"""Shards that wait for long: what that costs, and who wakes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from unittest import mock

import msgspec

from backhaul.model import shard as shard_module
from backhaul.model.job import JobRef
from backhaul.model.money import DOLLAR
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import BreakerRule
from prove.bill import bill
from prove.cases.payments import check, market, submit
from prove.faults import Fault, at
from prove.registry import Trial, case
from prove.scheduler import START
from prove.surroundings import Surroundings
from prove.vendor import NAME, Trouble
from prove.work import lines
from prove.world import World

HOUR, DAY = 3600.0, 86400.0
SOON = 10.0
"""Seconds within which a change reaches whoever waits for it."""
SHARDS = 16
PATIENT = {"max_tries": 1, "deadline_seconds": 2 * 86400}


# What a wait costs.


@contextmanager
def _sixteen(trial: Trial) -> Iterator[tuple[World, JobRef]]:
    """Yield a deployment with a job of 16 shards, of three calls each."""
    with market(trial, sweeps=False) as world, mock.patch.object(shard_module, "_SHARDS_PER_JOB", SHARDS):
        world.runs.concurrency = SHARDS
        world.simulation.spawn("timer", lambda: _sweep_now_and_then(world))
        yield world, world.submit(lines(trial.random, 3 * SHARDS), processor="ask-one", policy=PATIENT)


def _cents(world: World) -> float:
    return 100 * bill(world, without={"sweep"}).cost() / DOLLAR


@contextmanager
def _long_wait(trial: Trial, trouble: Trouble, seconds: float) -> Iterator[World]:
    """Let 16 shards wait for a provider, and judge what AWS takes for it; `seconds`: how late they may be done."""
    with _sixteen(trial) as (world, job):
        check(trial, world, job)
        work = _cents(world)
    with _sixteen(trial) as (world, job):
        world.vendor.troubles.append(trouble)
        yield world
        world.simulation.run(world.is_settled, longest=trouble.ends + seconds)
        state = world.job(job)["state"]
        trial.expect(state == "SUCCEEDED", f"{seconds} s after the provider was back the job is {state}")
        shards = sum(sk.startswith("SHARD#") for _, _, sk in world.tables.all())
        trial.expect(shards == SHARDS, f"the job has {shards} shards")
        cents = _cents(world) - work
        trial.figures |= {"cents": cents, "work": work, "asked": len(_asked(world))}
        trial.figures |= {"transitions": world.runs.transitions}
        trial.expect(cents < 1, f"a day of waiting costs {cents:.2f} cents: {bill(world, without={'sweep'})}")
        check(trial, world, job)


def _sweep_now_and_then(world: World) -> None:
    # A day has 1,440 sweeps, which say nothing new of a wait: each minute of the first quarter of an hour is enough.
    while True:
        world.simulation.sleep(60.0 if world.simulation.time < 900.0 else 3600.0)
        world.functions.begin("sweep", {})


def _asked(world: World) -> list[Any]:
    return [call for call in world.history.calls if call.step == "ask"]


@case("F45", "A provider is down for a day, and 16 shards wait for it: that costs less than a cent of AWS.", one_in=10)
def down_for_a_day(trial: Trial) -> None:
    with _long_wait(trial, Trouble("down", 0.0, DAY), 2000.0):
        pass


@case("F45.refused", "A provider refuses all calls for a day: 16 shards wait for less than a cent of AWS.", one_in=10)
def refused_for_a_day(trial: Trial) -> None:
    with _long_wait(trial, Trouble("busy", 0.0, DAY), 2000.0):
        pass


@case("F45.hours", "A provider asks 16 shards to come back in a day: that is one wait of each.", one_in=10)
def told_to_come_back(trial: Trial) -> None:
    with _long_wait(trial, Trouble("busy", 0.0, 60.0, retry_after=DAY), DAY + 120.0) as world:
        world.simulation.run(lambda: False, longest=DAY / 2)
        trial.expect(len(_asked(world)) <= SHARDS, f"the provider was asked {len(_asked(world))} times meanwhile")


# Who wakes them.


def _until_parked(trial: Trial, world: World) -> None:
    """Go on until somebody waits by a token, and nobody works."""

    def are_parked() -> bool:
        return any(each.waits for each in world.runs.callbacks.values()) and not world.functions.at_work("process")

    trial.expect(world.simulation.run(are_parked, longest=world.simulation.time + 900.0), "no shard waits")
    world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(0.0, 20.0))


def _wakes(
    trial: Trial,
    act: Callable[[World, JobRef], object],
    *faults: Fault,
    ends: str,
    retry_after: float | None = 5 * HOUR,
    kind: Any = "busy",
    within: float = SOON,
    **policy: Any,
) -> None:
    """Let shards wait for hours, let something happen, and judge whether their job has ended within seconds."""
    with market(trial) as world:
        world.vendor.troubles.append(Trouble(kind, 0.0, HOUR, retry_after))
        job = submit(trial, world, trial.random.choice(("ask-one", "ask-many")), policy=PATIENT | policy)
        _until_parked(trial, world)
        world.inject(*faults)
        began = world.simulation.time
        act(world, job)

        def has_ended() -> bool:
            return world.job(job)["state"] in ends.split()

        trial.expect(
            world.simulation.run(has_ended, longest=began + within),
            f"{within} s after the change the job is {world.job(job)['state']}",
        )
        check(trial, world, job, ends=ends)
        for fault in faults:
            trial.expect(fault.struck or fault.chance < 1, f"the fault {fault.kind!r} never struck")


def _cancel(world: World, job: JobRef) -> None:
    world.act("command", {"command": "cancel", "job": job})


def _by_hand(world: World, act: Callable[[Any], object]) -> None:
    """Let an operator do something with the deployment's stores."""
    actor = world.simulation.spawn("operator", lambda: act(world.functions.environment()))
    world.simulation.run(lambda: actor.ended, longest=world.simulation.time + 60.0)
    if actor.error is not None:
        raise actor.error


def _set(world: World, **changes: Any) -> None:
    """Change settings of the provider."""

    def put(environment: Any) -> None:
        stored = environment.store.providers.find(NAME)
        changed = msgspec.structs.replace(stored.provider, **changes)
        environment.store.providers.put(changed, version=stored.version, by="operator")

    _by_hand(world, put)


def _set_up_anew(world: World, job: JobRef) -> None:
    """Let an operator move the provider to where it answers."""
    world.vendor.troubles.clear()
    _set(world, model="another")


def _close(world: World, job: JobRef) -> None:
    world.vendor.troubles.clear()

    def close(environment: Any) -> None:
        breaker = Breaker(NAME, BreakerRule(), environment.store.breakers, environment.clock)
        breaker.close(by="operator", why="it is back")

    _by_hand(world, close)


@case("F45.cancel", "A job is cancelled whose shards wait for hours: it ends within ten seconds.")
def cancelled(trial: Trial) -> None:
    _wakes(trial, _cancel, ends="CANCELLED")


@case("F45.cancel-unheard", "The same, and whoever should wake them dies, twice, or its word is lost.")
def cancelled_unheard(trial: Trial) -> None:
    moment: Any = trial.random.choice(("kill before", "kill after", "lost"))
    fault = Fault(moment, at("wake"), times=2, skip=trial.random.randrange(2))
    _wakes(trial, _cancel, fault, ends="CANCELLED", within=120.0)


@case("F45.deadline", "A job's deadline passes while its shards wait for hours: it ends within ten seconds.")
def deadline_passes(trial: Trial) -> None:
    deadline = trial.random.randrange(120, 300)
    with market(trial, sweeps=False) as world:
        world.vendor.troubles.append(Trouble("busy", 0.0, HOUR, 5 * HOUR))
        job = submit(trial, world, "ask-one", policy=PATIENT | {"deadline_seconds": deadline})
        _until_parked(trial, world)
        past = (datetime.fromisoformat(world.job(job)["deadline_at"]) - START).total_seconds()
        world.simulation.run(world.is_settled, longest=past + SOON)
        trial.expect(world.job(job).get("stop", {}).get("kind") == "deadline", "nothing has stopped the job")
        trial.expect(world.job(job)["state"] == "FAILED", f"the job is {world.job(job)['state']}")


@case("F45.settings", "An operator changes the provider for which shards wait for hours: they go on within seconds.")
def provider_is_changed(trial: Trial) -> None:
    _wakes(trial, _set_up_anew, ends="SUCCEEDED", within=SOON + 60.0)


@case("F45.close", "An operator closes the breaker for which shards wait: they go on within seconds.")
def breaker_is_closed(trial: Trial) -> None:
    _wakes(trial, _close, ends="SUCCEEDED", kind="denied", retry_after=None, within=SOON + 60.0)


@case("F45.prober", "The worker dies that was to probe an open breaker: the sweep lets another shard do it.")
def prober_dies(trial: Trial) -> None:
    with market(trial) as world:
        world.vendor.troubles.append(Trouble("denied", 0.0, 200.0))
        job = submit(trial, world, "ask-one", policy=PATIENT)
        _until_parked(trial, world)
        # Nobody hears of the time-outs: so it is if the prober's job has ended, or its run was stopped.
        world.runs.loses_time_outs = True
        world.simulation.run(world.is_settled, longest=1500.0)
        trial.expect(world.job(job)["state"] == "SUCCEEDED", f"the job is {world.job(job)['state']}")
        check(trial, world, job)


@case("F45.race", "What a shard waits for changes between its worker's last word and the storing of its token.")
def changes_before_it_waits(trial: Trial) -> None:
    with market(trial) as world:
        world.vendor.troubles.append(Trouble("busy", 0.0, HOUR, 5 * HOUR))
        job = submit(trial, world, "ask-one", policy=PATIENT)
        real = world.functions.handlers["park"]

        def slowly(invocation: Any, world: Surroundings) -> None:
            world.simulation.sleep(5.0)  # the streams have told everybody by then
            real[1](invocation, world)

        world.functions.handlers["park"] = (real[0], slowly)
        world.simulation.run(lambda: world.functions.at_work("park") > 0, longest=120.0)
        act = trial.random.choice((_cancel, _set_up_anew))
        act(world, job)
        ended = world.simulation.run(
            lambda: world.job(job)["state"] in ("CANCELLED", "SUCCEEDED"), longest=world.simulation.time + 60.0
        )
        trial.expect(ended, f"the job is {world.job(job)['state']}")
        check(trial, world, job, ends="CANCELLED SUCCEEDED")


@case("F45.twice", "Waits are ended twice, and after their time-outs; shards wait again and again.")
def woken_twice(trial: Trial) -> None:
    with market(trial) as world:
        world.sleepers.doubled = 1.0
        world.functions.doubled["park"] = 0.5
        world.vendor.troubles.append(Trouble("busy", 0.0, 150.0, 20.0))
        job = submit(trial, world, "ask-one", policy=PATIENT)
        for _ in range(3):
            _until_parked(trial, world)
            _set(world, timeout_seconds=60.0 + world.simulation.time)
        check(trial, world, job)
