"""Runs that are started twice, forgotten, throttled or stopped, and shards that end at once or too late."""

from __future__ import annotations

from unittest import mock

from prove import orchestrator
from prove.faults import Fault, at
from prove.history import Call
from prove.registry import Trial, case
from prove.surroundings import Surroundings
from prove.work import lines
from prove.world import World

RECORDS = 27


def settle(trial: Trial, world: World) -> None:
    """Let everything come to its end."""
    trial.expect(world.run(longest=30 * 3600.0), "the deployment does not settle")


@case("F25", "A worker's error is larger than a payload may be; the job still ends and says what is missing.")
def large_payload(trial: Trial) -> None:
    with trial.world() as world:
        shard = trial.random.randrange(3)
        real = world.functions.handlers["process"]

        def handler(invocation: object, world: Surroundings) -> object:
            if invocation.event["shard"]["shard"] == shard:  # type: ignore[attr-defined]
                return {"outcome": "done", "seconds": 0, "too much": "x" * 300_000}
            return real[1](invocation, world)  # type: ignore[arg-type]

        world.functions.handlers["process"] = (real[0], handler)
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job, ends="PARTIAL")


@case("F25.map", "The map fails as a whole while shards are at work; what was done is merged, the rest is named.")
def map_fails(trial: Trial) -> None:
    with trial.world() as world:
        world.runs.map_fails_after = trial.random.uniform(0.0, 25.0)
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job, ends="SUCCEEDED PARTIAL FAILED")


@case("F26", "A child reaches the longest history that Step Functions keeps; the rest of the job is unharmed.")
def long_history(trial: Trial) -> None:
    with mock.patch.object(orchestrator, "MAX_EVENTS", 10), trial.world() as world:
        job = world.submit(lines(trial.random, RECORDS), options={"seconds": 80.0})
        settle(trial, world)
        trial.check(world, job, ends="PARTIAL", rework_records=None)


@case("F28", "The same run is started again and again, with the answer lost, and with another input.")
def same_name(trial: Trial) -> None:
    lost = Fault("lost", at(operation="StartExecution"), times=trial.random.randrange(1, 4))
    with trial.world(lost) as world:
        world.intake.doubled = 1.0
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job)
        trial.expect(len(world.runs.executions) == 1, f"{len(world.runs.executions)} runs were started")


@case("F29", "The last shards end in the same instant.")
def at_once(trial: Trial) -> None:
    def last_commit(call: Call) -> bool:
        return call.function == "process" and call.step == "commit"

    with trial.world() as world:
        job = world.submit(lines(trial.random, RECORDS))
        barrier = trial.random.uniform(30.0, 40.0)
        world.inject(*(Fault("pause before", last_commit, skip=3 + n, seconds=barrier - 8 * n / 100) for n in range(3)))
        settle(trial, world)
        trial.check(world, job)


@case("F29.late", "A shard was given up and the job merged without it; then its first worker wakes and commits.")
def late_shard(trial: Trial) -> None:
    shard = trial.random.randrange(3)
    hang = Fault("pause before", at("process", "commit", shard), seconds=1e6, zombie=True)
    dead = Fault("kill before", at("process", "claim", shard), skip=1, times=5)
    with trial.world(hang, dead) as world:
        world.functions.noticed_late = 0.0
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        ended = world.job(job)
        trial.expect(world.simulation.thaw(), "no worker of the first run is left")
        world.simulation.run(lambda: False, longest=world.simulation.time + 60)
        trial.check(world, job, ends="PARTIAL")
        trial.expect(world.job(job) == ended, "the late worker changed the job")


@case("F30", "Lambda refuses every second call: it has no room, or is out of order.")
def throttled_functions(trial: Trial) -> None:
    with trial.world() as world:
        for name in ("plan", "process", "merge", "dispatch", "announce"):
            world.functions.refusals[name] = 0.5
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job, rework_records=0)


@case("F31", "A run is stopped and nobody is told; the sweep finds the job and has what was done merged.")
def lost_end(trial: Trial) -> None:
    with trial.world() as world:
        world.bus.loses_run_ends = True
        job = world.submit(lines(trial.random, RECORDS))
        world.simulation.run(lambda: bool(world.runs.executions), longest=600)
        world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(0.0, 20.0))
        (name,) = world.runs.executions
        world.runs.stop(name, trial.random.choice(("ABORTED", "FAILED", "TIMED_OUT")))
        settle(trial, world)
        trial.check(world, job, ends="FAILED PARTIAL SUCCEEDED")


@case("F31.told", "A run is stopped while its workers work on, and EventBridge tells it twice.")
def stopped(trial: Trial) -> None:
    with trial.world() as world:
        world.bus.doubles_run_ends = 1.0
        job = world.submit(lines(trial.random, RECORDS))
        world.simulation.run(lambda: bool(world.runs.executions), longest=600)
        world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(0.0, 20.0))
        (name,) = world.runs.executions
        world.runs.stop(name)
        settle(trial, world)
        trial.check(world, job, ends="FAILED PARTIAL SUCCEEDED")


@case("F31.unstarted", "The process that dispatches dies each time before it starts the run; the sweep starts it.")
def unstarted(trial: Trial) -> None:
    dead = Fault("kill before", at("dispatch", "StartExecution"), times=5)
    with trial.world(dead) as world:
        job = world.submit(lines(trial.random, RECORDS))
        world.simulation.run(lambda: dead.struck == 1, longest=600)
        settle(trial, world)
        world.simulation.run(lambda: dead.struck == 5, longest=world.simulation.time + 1800)
        trial.check(world, job)


@case("F31.merge", "Every merge dies; the run fails, and the job with it.")
def merge_dies(trial: Trial) -> None:
    dead = Fault("kill before", at("merge", "put output"), times=6)
    with trial.world(dead) as world:
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job, ends="FAILED")


@case("F31.conclude", "Everything dies, and what should record that dies too; the sweep has the last word.")
def all_die(trial: Trial) -> None:
    faults = [
        Fault("kill before", at("plan", "put plan"), times=6),
        Fault("kill before", at("conclude"), times=9),
    ]
    with trial.world(*faults) as world:
        job = world.submit(lines(trial.random, RECORDS))
        settle(trial, world)
        trial.check(world, job, ends="FAILED")
