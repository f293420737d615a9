"""Processors' own counts, by name, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

MAX_TALLIES = 100
"""The most names that a chunk, a shard or a job may have: a job's tallies must fit into its record and its events."""
OTHER = "(other)"


def sum_tallies(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums by name, sorted by name; past 100 names the rest count together as `(other)`."""
    total: dict[str, int] = {}
    for each in tallies:
        for name, amount in each.items():
            has_room = len(total) - (OTHER in total) < MAX_TALLIES
            kept = name if name in total or has_room else OTHER
            total[kept] = total.get(kept, 0) + amount
    return dict(sorted(total.items()))
