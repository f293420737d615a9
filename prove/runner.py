"""Runs cases with seeds and adds up what they find."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from prove.checker.rework import Rework
from prove.registry import Case, Trial


@dataclass(frozen=True)
class Failure:
    """A seed with which a case finds violations, and the end of the history that shows them."""

    seed: int
    violations: tuple[str, ...]
    excerpt: tuple[str, ...]


@dataclass
class Result:
    """What all the seeds of a case came to."""

    case: Case
    seeds: int = 0
    failures: list[Failure] = field(default_factory=list)
    rework: Rework = field(default_factory=Rework)
    seconds: float = 0.0

    @property
    def violations(self) -> int:
        """How many violations all seeds found together."""
        return sum(len(each.violations) for each in self.failures)


def run_once(case: Case, seed: int) -> Trial:
    """Run a case with a seed; what it raises is a violation too."""
    trial = Trial(seed)
    try:
        case.body(trial)
    except Exception as error:  # a case that breaks has not shown what it is there to show
        trial.violations.append(f"the case broke off: {type(error).__name__}: {error}")
        trial.excerpt = trial.excerpt or traceback.format_exception(error)[-3:]
    return trial


def run_all(
    cases: Iterable[Case],
    seeds: Iterable[int],
    *,
    begin: Callable[[Case, int], None] = lambda *_: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Result]:
    """Run every case with every seed, seed after seed, as long as `goes_on` says so; `begin` hears of each."""
    results = [Result(case) for case in cases]
    for seed in seeds:
        for result in results:
            if not goes_on():
                return results
            begin(result.case, seed)
            began = time.perf_counter()
            trial = run_once(result.case, seed)
            result.seconds += time.perf_counter() - began
            result.seeds += 1
            worst = result.rework
            result.rework = Rework(
                max(worst.records, trial.rework.records), max(worst.chunks, trial.rework.chunks)
            )
            if trial.violations:
                result.failures.append(Failure(seed, tuple(trial.violations), tuple(trial.excerpt)))
    return results
