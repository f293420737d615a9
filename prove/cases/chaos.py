"""All of it at once: whatever happens, what is said of a job is true."""

from __future__ import annotations

from typing import Any

from prove.cases.orchestrator import settle
from prove.faults import Fault
from prove.history import Call
from prove.registry import Trial, case
from prove.work import lines
from prove.world import World

ANY = "SUCCEEDED PARTIAL FAILED CANCELLED"


def _any(call: Call) -> bool:
    return call.function not in ("submit", "client", "command")


def _faults(trial: Trial) -> list[Fault]:
    random = trial.random
    return [
        Fault("kill before", _any, times=random.randrange(5), chance=0.03),
        Fault("kill after", _any, times=random.randrange(5), chance=0.03),
        Fault("lost", _any, times=random.randrange(8), chance=0.05),
        Fault("refuse", _any, times=random.randrange(12), chance=0.05, code="InternalServerError"),
        Fault(
            "pause before", _any, times=random.randrange(3), chance=0.03, seconds=random.uniform(20, 900), zombie=True
        ),
        Fault("pause after", _any, times=random.randrange(3), chance=0.03, seconds=random.uniform(1, 60), alone=True),
    ]


def _unreliable(trial: Trial, world: World) -> None:
    random = trial.random
    world.intake.doubled, world.stream.doubled, world.bus.refuses = (random.uniform(0, 0.5) for _ in range(3))
    world.bus.loses_run_ends, world.bus.loses_job_ends = (random.random() < 0.3 for _ in range(2))
    for name in ("process", "merge", "plan", "dispatch"):
        world.functions.doubled[name] = random.uniform(0, 0.2)
        world.functions.refusals[name] = random.uniform(0, 0.2)


def _orders(trial: Trial, world: World, jobs: list[Any]) -> None:
    for job in jobs:
        for command in ("cancel", "redrive", "redrive"):
            if trial.random.random() < 0.4:
                order = {"command": command, "job": job, "only_failed": trial.random.random() < 0.2}
                world.act("command", order, delay=trial.random.uniform(0.0, 400.0))


@case("mix", "Deaths, pauses, lost answers, refusals, duplicates, cancels and redrives, all in one run.")
def mix(trial: Trial) -> None:
    with trial.world(*_faults(trial), max_running_jobs=2) as world:
        _unreliable(trial, world)
        jobs = [world.submit(lines(trial.random, 27)) for _ in range(trial.random.randrange(1, 4))]
        _orders(trial, world, jobs)
        world.simulation.run(lambda: False, longest=world.simulation.time + 400)
        settle(trial, world)
        world.simulation.thaw()
        settle(trial, world)
        trial.check(world, *jobs, ends=ANY, rework_records=None)
