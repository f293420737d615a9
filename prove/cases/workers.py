"""Workers that die, hang, run out of time, or meet what another left behind."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from backhaul import Context
from prove.faults import Fault, Kind, at
from prove.history import Call
from prove.registry import Trial, case
from prove.work import Mark, lines, marked
from prove.world import World

RECORDS = 27
SHARDS = 3


def _input(trial: Trial) -> bytes:
    return lines(trial.random, RECORDS)


def one_job(trial: Trial, *faults: Fault, ends: str = "SUCCEEDED", processor: str = "mark", **options: Any) -> World:
    """Run one job through these faults, and have it checked."""
    with trial.world(*faults, **options) as world:
        job = world.submit(_input(trial), processor=processor)
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, ends=ends)
        return world


def _kill(
    moment: Kind, function: str, step: str, *, spread: int = 1, sharded: bool = False
) -> Callable[[Random], Fault]:
    def fault(random: Random) -> Fault:
        shard = random.randrange(SHARDS) if sharded else None
        return Fault(moment, at(function, step, shard), skip=random.randrange(spread))

    return fault


KILLS: dict[str, tuple[str, Callable[[Random], Fault], dict[str, Any]]] = {
    "before-claim": ("before it claims its shard", _kill("kill before", "process", "claim", sharded=True), {}),
    "after-claim": (
        "after its claim, whose answer it never sees",
        _kill("kill after", "process", "claim", sharded=True),
        {},
    ),
    "after-get": ("after it began to read the input", _kill("kill after", "process", "get input", spread=3), {}),
    "mid-compute": (
        "in the middle of a record",
        lambda random: Fault("kill before", at("process"), skip=random.randrange(RECORDS), code="compute"),
        {},
    ),
    "before-result": ("before a result is stored", _kill("kill before", "process", "put results", spread=6), {}),
    "before-commit": (
        "after a result is stored and before the checkpoint",
        _kill("kill before", "process", "commit", spread=6),
        {},
    ),
    "after-commit": (
        "after a checkpoint and before it returns",
        _kill("kill after", "process", "commit", spread=6),
        {},
    ),
    "merge-before-complete": (
        "in merge, before the multipart upload is complete",
        _kill("kill before", "merge", "complete output"),
        {"multipart": True},
    ),
    "merge-after-complete": (
        "in merge, after the multipart upload is complete",
        _kill("kill after", "merge", "complete output"),
        {"multipart": True},
    ),
    "before-receipt": ("in merge, before the receipt is stored", _kill("kill before", "merge", "put receipt"), {}),
    "before-end": ("before the terminal write", _kill("kill before", "merge", "move SUCCEEDED"), {}),
    "after-end": ("after the terminal write", _kill("kill after", "merge", "move SUCCEEDED"), {}),
    "before-event": ("before the event goes out", _kill("kill before", "announce", "PutEvents", spread=2), {}),
    "after-event": ("after the event went out", _kill("kill after", "announce", "PutEvents", spread=2), {}),
}


def _declare(name: str, when: str, fault: Callable[[Random], Fault], options: dict[str, Any]) -> None:
    @case(f"F1.{name}", f"A process is killed {when}.")
    def killed(trial: Trial) -> None:
        one_job(trial, fault(trial.random), **options)


for _name, _parts in KILLS.items():
    _declare(_name, *_parts)


def _of_the_pipeline(call: Call) -> bool:
    return call.function not in ("submit", "client")


@case("F1.any-step", "Any process is killed at any one of its steps, before or after its effect.")
def any_step(trial: Trial) -> None:
    moment: Kind = trial.random.choice(("kill before", "kill after"))
    one_job(trial, Fault(moment, _of_the_pipeline, skip=trial.random.randrange(45)), processor="total")


@case("F1.storm", "One call in twelve kills whoever makes it, ten times over.")
def storm(trial: Trial) -> None:
    kinds: tuple[Kind, Kind] = ("kill before", "kill after")
    faults = [Fault(kind, _of_the_pipeline, times=5, chance=1 / 24) for kind in kinds]
    with trial.world(*faults) as world:
        jobs = [world.submit(_input(trial)) for _ in range(2)]
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, *jobs, ends="SUCCEEDED PARTIAL")  # a chunk at which three workers died is set aside


# Pauses: what was believed dead comes back.


def _zombie(
    random: Random, function: str, step: str, seconds: float, moment: Kind = "pause before", spread: int = 1
) -> Fault:
    longer = seconds + random.uniform(0.0, 60.0)
    return Fault(moment, at(function, step), skip=random.randrange(spread), seconds=longer, zombie=True)


@case("F2", "A worker hangs at its checkpoint until another has taken its shard over, and then goes on.")
def zombie_commit(trial: Trial) -> None:
    one_job(trial, _zombie(trial.random, "process", "commit", 300.0, spread=6))


@case("F2.result", "The same, hanging as it stores its result.")
def zombie_result(trial: Trial) -> None:
    one_job(trial, _zombie(trial.random, "process", "put results", 300.0, spread=6))


@case("F2.claim", "The same, hanging with its claim under way: it comes late and takes the shard back.")
def zombie_claim(trial: Trial) -> None:
    one_job(trial, _zombie(trial.random, "process", "claim", 300.0, spread=3))


@case("F2.merge", "A merge hangs at its last write until another has merged, and then goes on.")
def zombie_merge(trial: Trial) -> None:
    step = trial.random.choice(("move SUCCEEDED", "put receipt", "put output", "move MERGING"))
    one_job(trial, _zombie(trial.random, "merge", step, 900.0))


@case("F2.event", "An announcement hangs until another has told the same, and then goes on.")
def zombie_event(trial: Trial) -> None:
    one_job(trial, _zombie(trial.random, "announce", "PutEvents", 30.0, spread=2))


@case("F3", "A worker is at work on a record when its time runs out.")
def out_of_time(trial: Trial) -> None:
    hang = Fault("pause before", at("process"), skip=trial.random.randrange(RECORDS), seconds=299.9, code="compute")
    one_job(trial, hang)


@case("F3.memory", "A worker runs out of memory.")
def out_of_memory(trial: Trial) -> None:
    one_job(trial, Fault("out of memory", at("process"), skip=trial.random.randrange(RECORDS), code="compute"))


@case("F3.handover", "A shard takes longer than a worker has time: it hands over and loses nothing.")
def hands_over(trial: Trial) -> None:
    with trial.world() as world:
        job = world.submit(_input(trial), options={"seconds": 40.0})
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job, rework_records=0)
        workers = sum(call.step == "claim" for call in world.history.calls)
        trial.expect(workers > SHARDS, f"no worker handed over: {workers} claims")


class Hoarder(Mark):
    """A processor that keeps things in itself, which must not reach another chunk."""

    name = "hoarder"

    def process(self, record: str, ctx: Context) -> str:
        self.seen = getattr(self, "seen", 0) + 1
        made = super().process(record, ctx)
        return made if self.seen <= 3 else f"{made} after {self.seen} records of others"


@case("F4", "A warm environment serves another tenant next, whose job sees nothing of the one before.")
def leftovers(trial: Trial) -> None:
    kill = Fault("kill before", at("process", "commit"), skip=trial.random.randrange(9))
    with trial.world(kill) as world:
        world.processors["hoarder"] = Hoarder
        jobs = [world.submit(_input(trial), processor="hoarder", tenant=tenant) for tenant in ("TENANTA", "TENANTB")]
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, *jobs)
        for actor in {call.actor for call in world.history.calls if call.function in ("plan", "process", "merge")}:
            touched = {call.job_id for call in world.history.calls if call.actor == actor and call.job_id}
            trial.expect(len(touched) == 1, f"{actor} touched {len(touched)} jobs")


@case("F5", "Environments restored from one snapshot draw the same random names.")
def same_randomness(trial: Trial) -> None:
    hang = _zombie(trial.random, "merge", trial.random.choice(("put output", "put receipt", "move SUCCEEDED")), 900.0)
    with trial.world(hang) as world:
        job = world.submit(_input(trial))
        real = world.functions.begin

        def begin(name: str, event: dict[str, Any], *, delay: float = 0.0) -> Any:
            world.tokens.seed(5)
            return real(name, event, delay=delay)

        world.functions.begin = begin  # type: ignore[method-assign]
        trial.expect(world.run(), "the deployment does not settle")
        trial.check(world, job)
        trial.expect(marked(world.inputs[job.job_id]) in world.final().objects.values(), "there is no output")
