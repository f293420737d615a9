"""What a tenant asks of a job: cancel, redrive, a policy; and the slots that jobs wait for."""

from __future__ import annotations

from prove.cases.orchestrator import RECORDS, settle
from prove.faults import Fault, at
from prove.registry import Trial, case
from prove.work import lines
from prove.world import World


@case("F27", "A job is cancelled while its shards are at work, or at any other moment.")
def cancelled(trial: Trial) -> None:
    kill = Fault("kill after", at("process"), skip=trial.random.randrange(20), chance=0.5)
    with trial.world(kill) as world:
        job = world.submit(lines(trial.random, RECORDS), options={"seconds": trial.random.choice((2.0, 20.0))})
        asked = world.act("command", {"command": "cancel", "job": job}, delay=trial.random.uniform(0.0, 60.0))
        settle(trial, world)
        world.simulation.run(lambda: asked.ended, longest=world.simulation.time + 120)
        refused = type(asked.error.__cause__).__name__ if asked.error else ""
        trial.expect(refused in ("", "JobHasEnded"), f"the cancel failed with {asked.error!r}")
        trial.check(world, job, ends="SUCCEEDED" if refused else "CANCELLED")
        _holds_no_slot(trial, world)


@case("F27.queued", "A job is cancelled while it waits for a slot; the slots are never leaked.")
def cancelled_in_the_queue(trial: Trial) -> None:
    kill = Fault("kill before", at("dispatch"), skip=trial.random.randrange(20), times=2)
    with trial.world(kill, max_running_jobs=1) as world:
        jobs = [world.submit(lines(trial.random, 9)) for _ in range(3)]
        world.act("command", {"command": "cancel", "job": jobs[1]}, delay=trial.random.uniform(0.0, 20.0))
        settle(trial, world)
        trial.check(world, *jobs, ends="SUCCEEDED CANCELLED")
        trial.expect(_most_at_once(world) <= 1, f"{_most_at_once(world)} jobs ran at once")
        _holds_no_slot(trial, world)


@case("F31.slots", "The ends of jobs are told to nobody, and dispatchers die; those that wait start all the same.")
def slots_are_handed_on(trial: Trial) -> None:
    kill = Fault("kill after", at("dispatch"), times=6, chance=0.15)
    with trial.world(kill, max_running_jobs=2, max_running_jobs_per_tenant=1) as world:
        world.bus.loses_job_ends = trial.random.random() < 0.5
        tenants = ("TENANTA", "TENANTA", "TENANTB", "TENANTC")
        jobs = [world.submit(lines(trial.random, 9), tenant=tenant, options={"seconds": 1.0}) for tenant in tenants]
        settle(trial, world)
        trial.check(world, *jobs)
        trial.expect(_most_at_once(world) <= 2, f"{_most_at_once(world)} jobs ran at once")
        _holds_no_slot(trial, world)


def _most_at_once(world: World) -> int:
    held = [
        len(change.after.get("members", ()))
        for call in world.history.calls
        for change in call.changes
        if change.pk == "SLOTS" and change.after is not None
    ]
    return max(held, default=0)


def _holds_no_slot(trial: Trial, world: World) -> None:
    world.simulation.run(lambda: False, longest=world.simulation.time + 120)
    slots = world.tables.read((world.settings.flow_table, "SLOTS", "SLOTS")) or {}
    trial.expect(not slots.get("members"), f"slots are held in the end: {slots.get('members')}")


@case("F23", "A PARTIAL job is redriven, twice at once, with a worker killed; only what was missing is done.")
def redriven(trial: Trial) -> None:
    data = lines(trial.random, RECORDS)
    shard = trial.random.randrange(3)
    dead = Fault("kill before", at("process", "claim", shard), times=6)
    with trial.world(dead) as world:
        world.functions.noticed_late = 0.0
        job = world.submit(data)
        settle(trial, world)
        trial.check(world, job, ends="PARTIAL")
        done = len(world.history.work)
        world.inject(Fault("kill after", at("process"), skip=trial.random.randrange(6)))
        order = {"command": "redrive", "job": job}
        asked = [world.act("command", order, delay=trial.random.uniform(0.0, 0.3)) for _ in range(2)]
        world.simulation.run(lambda: all(each.ended for each in asked), longest=world.simulation.time + 60)
        settle(trial, world)
        trial.check(world, job)
        again = {work.record for work in world.history.work[done:]}
        before = {work.record for work in world.history.work[:done]}
        trial.expect(not again & before, f"{len(again & before)} records were done again")
        trial.expect(world.job(job)["run"] == 2, f"the job is in run {world.job(job)['run']}")


@case("F23.zombie", "A worker of the first run wakes in the middle of the second, which a redrive began.")
def redriven_with_a_zombie(trial: Trial) -> None:
    shard = trial.random.randrange(3)
    step = trial.random.choice(("commit", "put results"))
    hang = Fault("pause before", at("process", step, shard), seconds=1e6, zombie=True)
    dead = Fault("kill before", at("process", "claim", shard), skip=1, times=5)
    with trial.world(hang, dead) as world:
        world.functions.noticed_late = 0.0
        job = world.submit(lines(trial.random, RECORDS))
        world.simulation.run(lambda: world.job(job)["state"] == "PARTIAL", longest=5000)
        world.act("command", {"command": "redrive", "job": job})
        world.simulation.run(lambda: world.job(job)["run"] == 2, longest=world.simulation.time + 60)
        world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(0.0, 25.0))
        trial.expect(world.simulation.thaw(), "no worker of the first run is left")
        settle(trial, world)
        world.simulation.run(lambda: False, longest=world.simulation.time + 300)
        trial.check(world, job)


@case("F24", "Exactly as many chunks are missing as the job tolerates, and one more.")
def tolerated(trial: Trial) -> None:
    data = lines(trial.random, RECORDS)
    tolerate, over = trial.random.choice(((3, False), (2, True), ("33.333%", True), ("33.334%", False)))
    dead = Fault("kill before", at("process", "claim", trial.random.randrange(3)), times=6)
    with trial.world(dead) as world:
        world.functions.noticed_late = 0.0
        job = world.submit(data, policy={"tolerate": tolerate})
        settle(trial, world)
        trial.check(world, job, ends="FAILED" if over else "PARTIAL")
