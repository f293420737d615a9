"""Measure and print the table; with `--write`, into docs/benchmarks.md. Fails if a bound is broken.

Run it with `make bench-limits`. Every caller has more to do than the limit allows: one thread each, or sixteen with
leases. A call takes 20 to 100 ms. 100 calls a second are measured for one minute, 10 for five; after that nothing
more is asked for, and what is reserved is used. The provider is a token bucket that holds one second's calls and
allows 1/0.95 of the limit.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from backhaul.paid.limit.shared_clock import NEAR, SKEW
from benchmarks.limits.ours import STARTING, Result, Setting, simulate
from benchmarks.limits.peers import PEERS, simulate_peer

PAGE = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"
BEGIN, END = "<!-- bench-limits: begin -->\n", "<!-- bench-limits: end -->"
LATENCIES = ((0.004, 0.002), (0.025, 0.015))
LEASE = 16
HEAD = """| | callers | calls/s | store | clocks | utilisation | fullest second | refused | writes/call | bucket |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""


def settings() -> Iterator[Setting]:
    """Yield the rows whose bounds are checked."""
    grid = itertools.product((1, LEASE), (100, 10), (20, 200), LATENCIES, (0.0, 0.5))
    for lease, rate, callers, latency, skew in grid:
        yield Setting(callers, rate, latency, skew, lease, seconds=60.0 if rate == 100 else 300.0)
    yield from as_workers(skew=0.0)


def as_workers(*, skew: float) -> Iterator[Setting]:
    """Yield rows of limiters as workers set them up."""
    for rate, callers, latency in itertools.product((100, 10), (20, 200), LATENCIES):
        yield Setting(callers, rate, latency, skew, LEASE, seconds=60.0 if rate == 100 else 300.0, near=SKEW)


def unbounded_settings() -> Iterator[Setting]:
    """Yield rows that are only looked at: clocks that are wrong and believed, and newcomers all the time."""
    yield from as_workers(skew=0.5)
    for near, lease, skew in itertools.product((NEAR, SKEW), (1, LEASE), (0.0, 0.5)):
        yield Setting(200, 100, LATENCIES[1], skew, lease, starting=5.0, near=near)
    for near, skew in itertools.product((NEAR, SKEW), (0.0, 0.01, 0.5)):
        yield Setting(200, 100, LATENCIES[1], skew, near=near, visits=True)


def name_of(setting: Setting) -> str:
    """Return what a row of ours is called."""
    return "".join(
        [
            "ours",
            ", leases" if setting.lease > 1 else "",
            ", late" if setting.starting > STARTING else "",
            ", visits" if setting.visits else "",
            ", clocks believed" if setting.near > NEAR else "",
        ]
    )


def broken(setting: Setting, result: Result) -> Iterator[str]:
    """Yield the bounds that do not hold."""
    fast, leased = setting.rate == 100, setting.lease > 1
    factor = 1.15 if setting.skew else 1.12 if leased else 1.03
    bounds = {
        "utilisation": result.utilisation >= 0.99,
        "fullest second": result.fullest <= (setting.rate * factor if fast else setting.rate * 1.1 + 1),
        "refused": result.refused == 0,
        "writes per call": result.writes <= (0.1 if leased else 1.05 if fast else 1.25),
    }
    yield from (name for name, holds in bounds.items() if not holds)


def row(name: str, setting: Setting, result: Result) -> str:
    """Return a line of the table."""
    middle, spread = (round(1000 * value) for value in setting.latency)
    cells = (
        name,
        f"{setting.callers}",
        f"{setting.rate}",
        f"{middle}±{spread} ms",
        f"±{1000 * setting.skew:.0f} ms" if setting.skew else "exact",
        f"{result.utilisation:.3f}",
        f"{result.fullest / setting.rate:.2f}",
        f"{result.refused:.1%}",
        f"{result.writes:.3f}" if result.writes < 10 else f"{result.writes:.0f}",
        f"{result.bucket:.0f}",
    )
    return f"| {' | '.join(cells)} |\n"


def main(words: list[str]) -> int:
    """Return the exit code."""
    lines, failed = [HEAD], []
    for setting in settings():
        result = simulate(setting)
        lines.append(row(name_of(setting), setting, result))
        failed += [f"{name}: {lines[-1]}" for name in broken(setting, result)]
    for setting in unbounded_settings():
        lines.append(row(name_of(setting), setting, simulate(setting)))
    for peer, (rate, callers, latency) in itertools.product(PEERS, itertools.product((100, 10), (20, 200), LATENCIES)):
        setting = Setting(callers, rate, latency, seconds=20.0 if rate == 100 else 60.0)
        lines.append(row(peer, setting, simulate_peer(peer, setting)))
    table = "".join(lines)
    sys.stdout.write(table)
    sys.stderr.writelines(f"BROKEN {line}" for line in failed)
    if "--write" in words and not failed:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
