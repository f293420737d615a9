"""What people see of a run: progress, a table, and for each failure the command that repeats it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from backhaul.cli.screen import console, emit_json, plain, plain_table, say, show
from prove.mutations import Mutant
from prove.runner import Finding, Result

_VIOLATIONS_SHOWN = 3
_HISTORY_SHOWN = 15
_QUIET_SECONDS = 30.0


class Bar:
    """Tells which case is running; without a terminal, now and then."""

    def __init__(self, bars: Progress, total: int | None) -> None:
        self._bars = bars
        self._task = bars.add_task("", total=total)
        self._done = 0
        self._said_at = time.monotonic()

    def advance(self, found: Finding) -> None:
        """Show the run that has ended."""
        self._done += 1
        self._bars.update(self._task, completed=self._done, description=f"{found.case} seed {found.seed}")
        if found.violations:
            self._bars.console.print(f"[red]{found.case} seed {found.seed}[/red] {plain(found.violations[0])}")
        if not console.is_terminal and time.monotonic() - self._said_at >= _QUIET_SECONDS:
            self._said_at = time.monotonic()
            say(f"{self._done} runs done, the last {found.case} seed {found.seed}")


@contextmanager
def progress(total: int | None) -> Iterator[Bar]:
    """Show a bar as long as this lasts."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield Bar(bars, total)


def show_results(results: Sequence[Result], mutants: Sequence[tuple[Mutant, int | None]]) -> None:
    """Write the table to stdout, and what failed."""
    table = plain_table("CASE", "LAYER", "SEEDS", "VIOLATIONS", "REWORK", "SECONDS", "WHAT HAPPENS")
    for number, column in enumerate(table.columns[:6]):
        column.no_wrap = True
        column.justify = "right" if number >= 2 else "left"
    for each in results:
        violations = f"[red]{each.violations}[/red]" if each.violations else "0"
        rework = f"{each.rework.records:g}/{each.rework.chunks:g}"
        row = (each.case.id, each.case.layer, str(each.seeds), violations, rework, f"{each.seconds:.1f}")
        table.add_row(*row, plain(each.case.sentence))
    show(table)
    show("REWORK: records/chunks done again, at most, for each worker that was lost.")
    for each in results:
        _show_failure(each)
    for mutant, seed in mutants:
        answer = "[red]no[/red]" if seed is None else f"yes (seed {seed})"
        show(f"mutation: {mutant.name} → {mutant.case} fails: {answer}")
    runs, found = sum(each.seeds for each in results), sum(each.violations for each in results)
    show(f"{len(results)} cases, {runs} runs, {found} violations")


def _show_failure(result: Result) -> None:
    for failure in result.failures[:1]:
        show(f"\n[red]{result.case.id}[/red] fails with {len(result.failures)} of {result.seeds} seeds. To repeat it:")
        show(f"  python -m prove --case {result.case.id} --seed {failure.seed}")
        for violation in failure.violations[:_VIOLATIONS_SHOWN]:
            show(f"  {plain(violation)}")
        for line in failure.excerpt[-_HISTORY_SHOWN:]:
            show(f"    {plain(line.rstrip())}")


def emit_results(results: Sequence[Result], mutants: Sequence[tuple[Mutant, int | None]]) -> None:
    """Write everything as one JSON document."""
    emit_json({"cases": [_values(each) for each in results], "mutations": [_mutation(*each) for each in mutants]})


def _values(result: Result) -> dict[str, Any]:
    return {
        "case": result.case.id,
        "layer": result.case.layer,
        "sentence": result.case.sentence,
        "seeds": result.seeds,
        "violations": result.violations,
        "rework": {"records": result.rework.records, "chunks": result.rework.chunks},
        "seconds": round(result.seconds, 2),
        "failures": [
            {"seed": each.seed, "violations": each.violations, "history": each.excerpt} for each in result.failures
        ],
    }


def _mutation(mutant: Mutant, seed: int | None) -> dict[str, Any]:
    return {"mutation": mutant.name, "case": mutant.case, "found": seed is not None, "seed": seed}
