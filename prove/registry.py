"""The cases of every layer, and what a case is given: a trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from backhaul.model.job import JobRef
from prove.checker import Expected, Violation, check
from prove.checker.evidence import Evidence
from prove.checker.rework import Rework, measure
from prove.faults import Fault
from prove.history import History
from prove.network import Mutation
from prove.simulation import simulated
from prove.work import RECORD_BYTES, marked
from prove.world import World

Layer = Literal["deterministic", "process"]
LAYERS: tuple[Layer, ...] = ("deterministic", "process")

REWORK_RECORDS = 6
"""Records that one lost attempt may cost: those of ten seconds at two seconds each, and the one in work."""


@dataclass(frozen=True)
class Case:
    """One fault case: an ID of the list of faults, a sentence, and a body that does it once with a seed.

    A case of the process layer has a body that takes a `Trial` too; the deterministic layer's simulate.
    """

    id: str
    sentence: str
    layer: Layer
    body: Callable[[Trial], None]
    one_in: int = 1
    """Of so many seeds in a row, the one with which it runs: a simulated day takes as long as twenty other cases."""


CASES: dict[str, Case] = {}
"""Every case, by ID, in the order in which they are declared."""


def case(
    identifier: str, sentence: str, *, layer: Layer = "deterministic", one_in: int = 1
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Declare the decorated function as a case."""

    def declare(body: Callable[[Trial], None]) -> Callable[[Trial], None]:
        if identifier in CASES:
            raise ValueError(f"there are two cases {identifier}")
        CASES[identifier] = Case(identifier, sentence, layer, body, one_in)
        return body

    return declare


@dataclass
class Trial:
    """One run of one case with one seed: what it finds, and tools to find it."""

    seed: int
    violations: list[str] = field(default_factory=list)
    rework: Rework = field(default_factory=Rework)
    excerpt: list[str] = field(default_factory=list)
    """The end of the last history, for a person who looks for the cause."""
    histories: list[History] = field(default_factory=list)
    """What happened in each world of the trial."""
    mutation: Mutation | None = None
    """A bug that is put in on purpose."""
    figures: dict[str, float] = field(default_factory=dict)
    """What was measured on the way, for whoever asks."""
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # choices of a test

    @contextmanager
    def world(self, *faults: Fault, **options: Any) -> Iterator[World]:
        """Yield a simulated deployment with these faults; every one of them must have struck in the end."""
        with simulated(self.seed, *faults, **options) as world:
            world.network.mutate = self.mutation
            yield world
            for fault in faults:
                self.expect(
                    fault.struck > 0 or fault.chance < 1.0 or not fault.times, f"the fault {fault.kind!r} never struck"
                )
            self.excerpt = world.history.excerpt()
            self.histories.append(world.history)

    def expect(self, condition: object, sentence: str) -> None:
        """Note a violation unless the condition holds."""
        if not condition:
            self.violations.append(sentence)

    def check(self, world: World, *jobs: JobRef, ends: str = "SUCCEEDED", **changes: Any) -> None:
        """Let the checker judge these jobs: those that end in one of the states named, words apart."""
        final = world.final()
        expected = [self._expected(world, job, ends, changes) for job in jobs]
        self.violations += map(str, check(world.history, final, expected))
        for each in expected:
            found = measure(Evidence(world.history, final, each))
            records, chunks = max(self.rework.records, found.records), max(self.rework.chunks, found.chunks)
            self.rework = Rework(records, chunks)

    def _expected(self, world: World, job: JobRef, ends: str, changes: dict[str, Any]) -> Expected:
        usual: dict[str, Any] = {
            "data": world.inputs[job.job_id],
            "output": marked,
            "record_bytes": RECORD_BYTES,
            "rework_records": REWORK_RECORDS,
        }
        return Expected(job.job_id, job.tenant, frozenset(ends.split()), **(usual | changes))


__all__ = ["CASES", "LAYERS", "Case", "Layer", "Trial", "Violation", "case"]
