"""Hosts whose clocks differ, and jump."""

from __future__ import annotations

from prove.cases.orchestrator import settle
from prove.cases.payments import PROCESSORS, WORKER_SECONDS, check, death, market, submit
from prove.cases.providers import COOLDOWN_SECONDS, LIMITED, ONE_TRY, limit, outage
from prove.faults import Fault, at
from prove.handlers import run_process
from prove.messages import sweep_every_minute
from prove.registry import Trial, case
from prove.work import lines
from prove.world import World

BEFORE_MIDNIGHT = 12 * 3600.0 - 8.0
"""From the start of a simulation, at noon, to a few seconds before the day ends."""


def skewed(trial: Trial) -> float:
    """Return by how much clocks are off at most."""
    return trial.random.uniform(0.5, 5.0)


def _jump(trial: Trial, world: World) -> None:
    """Set the clocks of some hosts back while they work."""
    world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(5.0, 12.0))
    for clock in world.functions.clocks:
        if trial.random.random() < 0.5:
            clock.ahead -= trial.random.uniform(1.0, 60.0)


@case("F32", "Clocks are off by up to five seconds, some jump back, and a worker dies: no result is lost or doubled.")
def clocks_differ(trial: Trial) -> None:
    kill = Fault("kill before", at("process", "commit"), skip=trial.random.randrange(6))
    with trial.world(kill) as world:
        world.functions.skew = skewed(trial)
        job = world.submit(lines(trial.random, 27))
        _jump(trial, world)
        settle(trial, world)
        trial.check(world, job)


@case("F32.paid", "The same with paid calls under a budget.")
def clocks_of_buyers_differ(trial: Trial) -> None:
    with market(trial, death(trial, trial.random.choice(("ask", "create step", "take budget")))) as world:
        world.functions.skew = skewed(trial)
        job = submit(trial, world, policy={"max_cost": "100"})
        _jump(trial, world)
        check(trial, world, job, cap=100 * 10**9)


@case("F32.limited", "Clocks are off and jump back under a limit: no record loses an attempt.")
def clocks_of_limited_differ(trial: Trial) -> None:
    with market(trial, provider=LIMITED) as world:
        world.functions.skew = skewed(trial)
        limit(world)
        job = submit(trial, world, trial.random.choice(PROCESSORS[:2]), records=12, policy=ONE_TRY)
        _jump(trial, world)
        check(trial, world, job)


@case("F32.outage", "Clocks are off while a provider is down: one at a time asks, earlier by no more than they differ.")
def clocks_differ_in_outage(trial: Trial) -> None:
    skew = skewed(trial)
    outage(trial, skew=skew, cooldown_seconds=COOLDOWN_SECONDS - 2 * skew)


@case("F32.midnight", "A day ends while calls are paid for from its budgets, on hosts that do not agree when it does.")
def day_ends(trial: Trial) -> None:
    kills = [death(trial, trial.random.choice(("ask", "create step", "take budget")))] * trial.random.randrange(2)
    with trial.world(*kills, sweeps=False, max_cost_per_day_per_tenant="100", max_cost_per_day="100") as world:
        world.simulation.run(lambda: False, longest=BEFORE_MIDNIGHT)
        world.simulation.spawn("timer", lambda: sweep_every_minute(world))
        world.vendor.set_up()
        world.functions.handlers["process"] = (WORKER_SECONDS, run_process)
        world.functions.skew = skewed(trial)
        check(trial, world, submit(trial, world))
        spent = [item["used"] for (_, pk, _), item in world.tables.all().items() if pk.startswith("BUDGET#S")]
        charged = sum(call.answer.get("charged", 0) for call in world.history.calls if call.step == "ask")
        trial.expect(sum(spent) >= charged, f"{charged} were charged, and {spent} counted on the days")
