"""Runs cases with seeds, in several processes if there are several processors, and adds up what they find."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue

from prove.affinity import keep_to_processor
from prove.checker.rework import Rework
from prove.pace import freeze
from prove.registry import CASES, Case, Trial


@dataclass(frozen=True)
class Finding:
    """What one run of a case with one seed came to."""

    case: str
    seed: int
    violations: tuple[str, ...]
    excerpt: tuple[str, ...]
    """The end of the history, where there are violations."""
    rework: Rework
    seconds: float


@dataclass
class Result:
    """What all the seeds of a case came to."""

    case: Case
    seeds: int = 0
    failures: list[Finding] = field(default_factory=list)
    rework: Rework = field(default_factory=Rework)
    seconds: float = 0.0

    @property
    def violations(self) -> int:
        """How many violations all seeds found together."""
        return sum(len(each.violations) for each in self.failures)

    def add(self, found: Finding) -> None:
        """Count a run of the case."""
        self.seeds += 1
        self.seconds += found.seconds
        worst, again = self.rework, found.rework
        self.rework = Rework(max(worst.records, again.records), max(worst.chunks, again.chunks))
        if found.violations:
            self.failures.append(found)


def load_cases() -> None:
    """Import every module that declares cases."""
    for module in ("prove.cases", "prove.processes"):
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)


def run_once(identifier: str, seed: int) -> Finding:
    """Run a case with a seed; what it raises is a violation too."""
    load_cases()
    trial, began = Trial(seed), time.perf_counter()
    try:
        CASES[identifier].body(trial)
    except Exception as error:  # a case that breaks off has not shown what it is there to show
        trial.violations.append(f"the case broke off: {type(error).__name__}: {error}")
        trial.excerpt = traceback.format_exception(error)[-3:]
    freeze()
    excerpt = tuple(trial.excerpt) if trial.violations else ()
    seconds = time.perf_counter() - began
    return Finding(identifier, seed, tuple(trial.violations), excerpt, trial.rework, seconds)


def run_all(
    cases: Iterable[Case],
    seeds: Iterable[int],
    *,
    workers: int = 1,
    on_run_ended: Callable[[Finding], None] = lambda _: None,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[Result]:
    """Run every case with its share of the seeds, seed after seed, as long as `goes_on` says so.

    `on_run_ended` gets the finding of each run.
    """
    results = {case.id: Result(case) for case in cases}
    if not results:
        return []
    runs = ((case, seed) for place, seed in enumerate(seeds) for case in results if is_due(results[case].case, place))
    for found in _parallel(runs, workers, goes_on) if workers > 1 else _serial(runs, goes_on):
        results[found.case].add(found)
        on_run_ended(found)
    return list(results.values())


def is_due(case: Case, place: int) -> bool:
    """Return whether the case runs with the seed at this place in the row of seeds."""
    return place % case.one_in == 0


def _settle_in(numbers: SimpleQueue[int]) -> None:
    """Let Ctrl-C stop the parent only, which ends this process when its run is over; and keep to one processor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_to_processor(numbers.get())


def _serial(runs: Iterable[tuple[str, int]], goes_on: Callable[[], bool]) -> Iterator[Finding]:
    for case, seed in runs:
        if not goes_on():
            return
        yield run_once(case, seed)


def _parallel(runs: Iterator[tuple[str, int]], workers: int, goes_on: Callable[[], bool]) -> Iterator[Finding]:
    # Not forked: threads and clients of this process would come along.
    context = get_context("spawn")
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    with ProcessPoolExecutor(workers, context, _settle_in, (numbers,)) as pool:
        ahead: set[Future[Finding]] = set()
        while True:
            more = islice(runs, 2 * workers - len(ahead)) if goes_on() else ()
            ahead |= {pool.submit(run_once, *each) for each in more}
            if not ahead:
                return
            done, ahead = wait(ahead, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
