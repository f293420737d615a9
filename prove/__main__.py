"""`python -m prove`: run fault cases, show what they found, and exit with 1 if that was anything.

Ctrl-C and SIGTERM end it after the runs that are under way, with what was found until then and the exit code 130.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from types import FrameType

from backhaul.cli.signals import INTERRUPTED
from prove import proofs
from prove.mutations import MUTANTS, Mutant, found_by
from prove.registry import CASES, LAYERS, Case, Layer
from prove.report import Bar, emit_results, progress, show_results
from prove.runner import Result, is_due, load_cases, run_all


def main() -> int:
    """Run what the command line asks for and return the exit code."""
    wanted = _arguments()
    load_cases()
    cases = _chosen(wanted)
    if not cases:
        there = ", ".join(each.id for each in CASES.values() if wanted.layer in (None, each.layer)) or "none"
        sys.stderr.write(f"There is no case {wanted.case or ''} here. There are: {there}.\n")
        return 2
    total = None if wanted.minutes else sum(is_due(each, at) for each in cases for at in range(len(_seeds(wanted))))
    end = End()
    with progress(total) as bar:
        results = [each for layer in LAYERS for each in _run(layer, cases, wanted, bar, end)]
        mutants = [(each, found_by(each)) for each in _mutants(cases, wanted.seed) if not end.is_asked]
    (emit_results if wanted.json else show_results)(results, mutants)
    if end.is_asked:
        return INTERRUPTED
    if wanted.write:
        proofs.write(results, [each.id for each in ordered()])
    return int(any(each.violations for each in results) or any(seed is None for _, seed in mutants))


class End:
    """Whether somebody has asked for the end by a signal; a second signal does what signals do."""

    def __init__(self) -> None:
        self.is_asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.is_asked = True
        signal.signal(number, signal.SIG_DFL)


def _run(layer: Layer, cases: list[Case], wanted: argparse.Namespace, bar: Bar, asked: End) -> list[Result]:
    """Run the cases of one layer: what kills processes and measures time runs alone."""
    end = time.monotonic() + wanted.minutes * 60 if wanted.minutes else None
    # Real processes take real time: one seed, unless somebody asks for this layer.
    seeds = _seeds(wanted) if layer in ("deterministic", wanted.layer) or wanted.case else _seeds(wanted)[:1]
    return run_all(
        [each for each in cases if each.layer == layer],
        itertools.count() if end and wanted.seed is None else seeds,
        workers=wanted.workers if layer == "deterministic" else 1,
        on_run_ended=bar.advance,
        goes_on=lambda: not asked.is_asked and (end is None or time.monotonic() < end),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m prove", description="Run the fault cases of the pipeline.")
    parser.add_argument("--layer", choices=LAYERS, help="only the cases of this layer")
    parser.add_argument("--case", help="only this case, or all of its variants where it has no other form (F1)")
    parser.add_argument("--seeds", type=int, default=20, help="run each case with so many seeds (default: 20)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them (default: 0)")
    parser.add_argument("--seed", type=int, help="run with this seed only")
    parser.add_argument("--minutes", type=float, help="go on with new seeds for so long in each layer")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a processor)")
    parser.add_argument("--json", action="store_true", help="write the results as JSON")
    parser.add_argument("--write", action="store_true", help="put the rows of these cases into docs/proofs.md")
    return parser.parse_args()


def _seeds(wanted: argparse.Namespace) -> Sequence[int]:
    return [wanted.seed] if wanted.seed is not None else range(wanted.first, wanted.first + wanted.seeds)


def _chosen(wanted: argparse.Namespace) -> list[Case]:
    return [each for each in ordered() if wanted.layer in (None, each.layer) and _is_meant(each.id, wanted.case)]


def ordered() -> list[Case]:
    """Return all cases by the numbers of the list of faults, then by layer and module, and otherwise as declared."""
    return sorted(CASES.values(), key=_order)


def _is_meant(identifier: str, case: str | None) -> bool:
    if case is None or case in CASES:
        return case in (None, identifier)
    return identifier.startswith(f"{case}.")


def _order(case: Case) -> tuple[int, int, str, int]:
    number = re.match(r"F(\d+)", case.id)
    # By module, because modules are imported now in this order and now in that.
    place = (LAYERS.index(case.layer), case.body.__module__, list(CASES).index(case.id))
    return (int(number[1]) if number else 1000), *place


def _mutants(cases: Iterable[Case], seed: int | None) -> list[Mutant]:
    """Return the bugs that these cases must find; none when somebody only repeats one seed."""
    names = {each.id for each in cases}
    return [each for each in MUTANTS if each.case in names] if seed is None else []


if __name__ == "__main__":
    sys.exit(main())
