"""The page of proofs, `docs/proofs.md`: `python -m prove --write` puts the rows of the cases that it ran there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prove.runner import Result

PAGE = Path(__file__).resolve().parents[1] / "docs/proofs.md"
BEGIN, END = "<!-- proofs: written by python -m prove --write -->\n", "<!-- end of proofs -->\n"
HEAD = "| Case | Layer | Seeds | Violations | Rework | What happens |\n|---|---|---:|---:|---:|---|\n"


def row(result: Result) -> str:
    """Return a case's line of the table."""
    case, rework = result.case, f"{result.rework.records:g}/{result.rework.chunks:g}"
    return f"| {case.id} | {case.layer} | {result.seeds} | {result.violations} | {rework} | {case.sentence} |\n"


def rows(page: str) -> dict[str, str]:
    """Return the lines that a page has, by case."""
    table = page.partition(BEGIN)[2].partition(END)[0].removeprefix(HEAD)
    return {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines(keepends=True)}


def renewed(page: str, results: Sequence[Result], order: Sequence[str]) -> str:
    """Return the page with new lines for the cases that ran, the old ones for the others, and none for other cases."""
    lines: Mapping[str, str] = rows(page) | {each.case.id: row(each) for each in results}
    before, _, rest = page.partition(BEGIN)
    table = "".join(lines[identifier] for identifier in order if identifier in lines)
    return f"{before}{BEGIN}{HEAD}{table}{END}{rest.partition(END)[2]}"


def write(results: Sequence[Result], order: Sequence[str]) -> None:
    """Write the lines of the cases that ran into the page."""
    PAGE.write_text(renewed(PAGE.read_text(), results, order))
