"""Steps, whose calls cost: workers that die around the storing of an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

from backhaul import Context
from backhaul.model.job import JobRef
from backhaul.store import claim_check
from prove.cases.orchestrator import settle
from prove.faults import Fault, Kind, at
from prove.history import Call
from prove.registry import Trial, case
from prove.work import RECORD_BYTES, Mark, lines
from prove.world import World

RECORDS = 18
NAMES = ("first", "second")
ANSWER_SECONDS = 1.0
BEAT_SECONDS = 10.0
"""How long a worker takes at most to learn that another has its shard."""

Step = tuple[int, str]
"""Number of a record, and the step's name."""


@dataclass(frozen=True)
class Asked:
    """One call that cost: when it was made, by whom, and the answer, which no other call gets."""

    time: float
    actor: str
    step: Step
    answer: str


def _asking(world: World, asked: list[Asked]) -> type[Mark]:
    def ask(step: Step) -> str:
        simulation = world.simulation
        actor = simulation.acting().name
        asked.append(Asked(simulation.time, actor, step, f"{step[1]} answer {len(asked)}"))
        answer = asked[-1].answer
        simulation.sleep(ANSWER_SECONDS)
        return answer

    class Asking(Mark):
        """A processor that asks twice about every line."""

        name = "asking"

        def process(self, record: str, ctx: Context) -> str:
            made = super().process(record, ctx)
            number = int(record.split()[1])
            return " ".join([made, *(ctx.step(name, partial(ask, (number, name))) for name in NAMES)])

    return Asking


def _stored(world: World, job: JobRef) -> dict[Step, str]:
    """Return the answers that lie in the stores."""
    found = {}
    for (_, pk, sk), item in world.tables.all().items():
        if pk == f"T#{job.tenant}#J#{job.job_id}" and sk.startswith("STEP#"):
            _, _, start, name = sk.split("#")
            body = item["answer"] if "answer" in item else world.read(item["answer_key"])
            found[int(start) // RECORD_BYTES, name] = json.loads(body)
    return found


def _stored_at(call: Call) -> tuple[Step, float]:
    _, _, start, name = call.subject.partition("|")[2].split("#")
    return (int(start) // RECORD_BYTES, name), call.time


def _run(trial: Trial, *faults: Fault, large: bool, again: int) -> None:
    """Run a job of steps; so many calls may be made again at most, and none whose answer was stored."""
    limit = 1 if large else claim_check.MAX_ANSWER
    asked: list[Asked] = []
    with mock.patch.object(claim_check, "MAX_ANSWER", limit), trial.world(*faults) as world:
        world.processors["asking"] = _asking(world, asked)
        job = world.submit(lines(trial.random, RECORDS), processor="asking")
        settle(trial, world)
        answers = _stored(world, job)

        def output(data: bytes, _: Any) -> bytes:
            texts = enumerate(data.decode().upper().splitlines())
            return "".join(
                " ".join([text, *(answers.get((number, name), "?") for name in NAMES)]) + "\n" for number, text in texts
            ).encode()

        trial.check(world, job, output=output)
        stored = dict(_stored_at(call) for call in world.history.calls if call.step == "create step" and call.applied)
        late = [each for each in asked if each.step in stored and each.time > stored[each.step]]
        trial.expect(not late, f"asked though the answer was stored: {late}")
        repeated = len(asked) - len({each.step for each in asked})
        trial.expect(repeated <= again, f"{repeated} calls were made again; {again} may be")
        trial.expect(len(stored) == len(NAMES) * RECORDS, f"{len(stored)} answers were stored")


MOMENTS: dict[str, tuple[Kind, int, str]] = {
    "before": ("kill before", 1, "is killed before a step's answer is stored: that one call is made again."),
    "after": ("kill after", 0, "is killed after a step's answer was stored: it is not asked for again."),
    "lost": ("lost", 0, "never learns that its step's answer was stored: it recognises its own."),
}


def _declare(name: str, kind: Kind, again: int, what: str) -> None:
    @case(f"F1.step-{name}", f"A worker {what}")
    def struck(trial: Trial) -> None:
        fault = Fault(kind, at("process", "create step"), skip=trial.random.randrange(len(NAMES) * RECORDS))
        _run(trial, fault, large=trial.random.random() < 0.5, again=again)


for _name, _parts in MOMENTS.items():
    _declare(_name, *_parts)


@case("F1.step-large", "A worker is killed while it stores an answer too large for an item, and the next as it reads.")
def large_answer(trial: Trial) -> None:
    moment: Kind = trial.random.choice(("kill before", "kill after"))
    write = Fault(moment, at("process", "put steps"), skip=trial.random.randrange(1, len(NAMES) * RECORDS))
    read = Fault("kill before", at("process", "get steps"), chance=0.5)
    _run(trial, write, read, large=True, again=1)


@case(
    "F2.step", "A worker hangs as it stores a step's answer until another has asked and stored: the first one counts."
)
def zombie_step(trial: Trial) -> None:
    seconds = 300.0 + trial.random.uniform(0.0, 20.0)
    skip = trial.random.randrange(len(NAMES) * RECORDS)
    hang = Fault("pause before", at("process", "create step"), skip=skip, seconds=seconds, zombie=True)
    _run(trial, hang, large=trial.random.random() < 0.5, again=1)
