"""Paid calls: budgets that run out, and workers that die, hang or are doubled while their calls are under way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backhaul.model.job import JobRef
from backhaul.model.money import nanodollars
from backhaul.store.budgets import BudgetKey
from prove.cases.orchestrator import settle
from prove.checker import Deal
from prove.faults import Fault, Kind, at
from prove.handlers import run_process
from prove.history import Call
from prove.registry import Trial, case
from prove.vendor import LEAST, MOST
from prove.work import AT_ONCE, RECORD_BYTES, STEPS, lines
from prove.world import World

RECORDS = 18
WORKER_SECONDS = 60.0
"""What a worker has here: what a dead one holds is missed for as long, if nobody learns of its death before."""
PROCESSORS = ("ask-one", "ask-many", "ask-thrice")


@contextmanager
def market(trial: Trial, *faults: Fault, provider: dict[str, Any] | None = None, **options: Any) -> Iterator[World]:
    """Yield a deployment with a provider that is set up so."""
    with trial.world(*faults, **options) as world:
        world.vendor.set_up(**(provider or {}))
        world.functions.handlers["process"] = (WORKER_SECONDS, run_process)
        yield world


def submit(
    trial: Trial, world: World, processor: str | None = None, *, records: int = RECORDS, **request: Any
) -> JobRef:
    """Submit a job of paid calls."""
    return world.submit(lines(trial.random, records), processor=processor or trial.random.choice(PROCESSORS), **request)


def check(trial: Trial, world: World, *jobs: JobRef, ends: str = "SUCCEEDED", **terms: Any) -> None:
    """Let everything come to its end, and have it checked."""
    settle(trial, world)
    for job in jobs:
        processor = str(world.job(job)["processor"])
        deal = Deal(
            calls=len(world.inputs[job.job_id]) // RECORD_BYTES * (len(STEPS) if processor == "ask-thrice" else 1),
            estimate=world.vendor.cost(MOST),
            at_once=AT_ONCE if processor == "ask-many" else 1,
            remembers=world.vendor.remembers,
            **terms,
        )
        trial.check(world, job, ends=ends, deal=deal, rework_records=None)


def redrive(world: World, job: JobRef) -> None:
    """Let somebody redrive the job."""
    asked = world.act("command", {"command": "redrive", "job": job})
    world.simulation.run(lambda: asked.ended, longest=world.simulation.time + 60)


def death(trial: Trial, step: str, *, first: int = 0, last: int = 12) -> Fault:
    """Return a death of a worker at one of its calls for this step, before or after its effect."""
    moment: Kind = trial.random.choice(("kill before", "kill after"))
    return Fault(moment, at("process", step), skip=trial.random.randrange(first, last))


def zombie(trial: Trial, step: str) -> Fault:
    """Return a pause at which a worker is taken for dead, and after which it goes on."""
    seconds = WORKER_SECONDS + trial.random.uniform(0.0, 60.0)
    moment: Kind = trial.random.choice(("pause before", "pause after"))
    return Fault(moment, at("process", step), skip=trial.random.randrange(12), seconds=seconds, zombie=True)


# Deaths.


@case("F33", "A worker dies around a paid call: it is made again at most, and what it held is settled by the next one.")
def dies_around_call(trial: Trial) -> None:
    with market(trial, death(trial, trial.random.choice(("ask", "create step", "take budget")))) as world:
        check(trial, world, submit(trial, world))


@case("F33.key", "The same at a provider that knows a call again by its key: nothing is charged twice.")
def dies_with_key(trial: Trial) -> None:
    faults = [death(trial, "ask"), Fault("lost", at("process", "ask"), skip=trial.random.randrange(9))]
    with market(trial, *faults, provider={"idempotency_header": "Idempotency-Key"}) as world:
        world.vendor.remembers = True
        check(trial, world, submit(trial, world))


@case("F33.storm", "One call in twelve of the workers kills its caller, twice over, or loses its answer.")
def dies_often(trial: Trial) -> None:
    def of_worker(call: Call) -> bool:
        return call.function == "process"

    # Both may die at one chunk; one at which a third died would be given up, as it should be.
    kinds: tuple[tuple[Kind, int], ...] = (("kill before", 1), ("kill after", 1), ("lost", 2))
    with market(trial, *(Fault(kind, of_worker, times=times, chance=1 / 36) for kind, times in kinds)) as world:
        check(trial, world, submit(trial, world))


@case("F33.zombie", "A worker hangs around a paid call until another has its shard, and then goes on.")
def hangs_around_call(trial: Trial) -> None:
    with market(trial, zombie(trial, trial.random.choice(("ask", "create step", "take budget")))) as world:
        check(trial, world, submit(trial, world))


@case("F33.lost", "Answers of the provider, of the budget and of the steps are lost.")
def answers_are_lost(trial: Trial) -> None:
    steps = ("ask", "create step", "take budget")
    faults = [Fault("lost", at("process", step), skip=trial.random.randrange(9), times=2) for step in steps]
    with market(trial, *faults) as world:
        check(trial, world, submit(trial, world))


# Budgets.


def paid_for(world: World, calls: float) -> str:
    """Return dollars for so many calls at their estimates."""
    return f"{world.vendor.cost(MOST) * calls / 10**9:.9f}"


def raise_cap(trial: Trial, world: World, job: JobRef, calls: float) -> None:
    """Give a job that is paused more to spend, and redrive it."""
    trial.expect(world.job(job)["state"] == "PAUSED", f"the job is {world.job(job)['state']}, not PAUSED")
    amount = int(world.vendor.cost(MOST) * calls)
    budgets = world.functions.environment().store.budgets
    budgets.raise_cap(BudgetKey.of_job(job), amount, by="operator", why="more")
    redrive(world, job)


def _runs_out(trial: Trial, *faults: Fault, **vendor: Any) -> None:
    """Let the budget run out on the way, then raise it, and let the job end."""
    with market(trial, *faults) as world:
        for name, value in vendor.items():
            setattr(world.vendor, name, value)
        processor = trial.random.choice(PROCESSORS)
        calls = RECORDS * (len(STEPS) if processor == "ask-thrice" else 1)
        # Less than all calls take at least, or a job of cheap ones would end within its budget.
        cheap = world.vendor.cost(LEAST) / world.vendor.cost(MOST)
        cap = paid_for(world, calls * cheap * trial.random.uniform(0.5, 1.0))
        job = submit(trial, world, processor, policy={"max_cost": cap})
        check(trial, world, job, ends="PAUSED", cap=nanodollars(cap))
        raise_cap(trial, world, job, 20 * calls)
        check(trial, world, job, cap=nanodollars(cap))


@case("F44", "A budget runs out in the middle of a chunk: the job pauses, and goes on where it was when it is raised.")
def runs_out(trial: Trial) -> None:
    _runs_out(trial)


@case("F44.death", "The same, and a worker dies around a call.")
def runs_out_and_dies(trial: Trial) -> None:
    _runs_out(trial, death(trial, trial.random.choice(("ask", "create step", "take budget")), last=4))


@case("F44.lost", "The same, and answers of the budgets are lost.")
def runs_out_unheard(trial: Trial) -> None:
    _runs_out(trial, Fault("lost", at("process", "take budget"), times=4, chance=0.3))


@case("F44.overrun", "The same, and one call in three takes three times what it may take at most.")
def costs_more(trial: Trial) -> None:
    _runs_out(trial, overruns=0.33)
