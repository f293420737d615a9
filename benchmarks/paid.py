"""Paid calls on the local cloud, at full size: pace at a limit, an outage, a budget, and workers that are killed.

`make bench-paid` runs the cases of `prove/cases/process_calls.py` once each with these sizes, and prints what was
measured. Absolute times say something of this machine only; shares and counts are what they are everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from prove.cases import process_calls
from prove.registry import Trial
from prove.site import running

SIZES: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "pace": (process_calls.pace, {"records": 2000, "share": 0.95}),
    "outage": (process_calls.outage, {"records": 600, "dead": 60.0, "cooldown": 15.0}),
    "budget": (process_calls.budget, {"records": 400, "cap": 1.0}),
    "killed": (process_calls.killed, {"records": 600, "kills": 10}),
}


def main(wanted: list[str]) -> int:
    """Run the named cases, or all; returns 1 if one of them finds a violation."""
    failed = 0
    with running() as site:
        for name in wanted or SIZES:
            case, sizes = SIZES[name]
            trial = Trial(seed=1)
            case(trial, site, **sizes)
            failed += bool(trial.violations)
            figures = ", ".join(f"{what} {value:.3f}".rstrip("0").rstrip(".") for what, value in trial.figures.items())
            given = ", ".join(f"{what} {value:g}" for what, value in sizes.items())
            print(f"{name} ({given}): {figures}", flush=True)
            for violation in trial.violations:
                print(f"  {violation}", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
