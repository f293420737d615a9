"""The rule on rework: a lost attempt costs at most the work since its last commit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from prove.checker.evidence import Evidence, shard_of


@dataclass(frozen=True)
class Rework:
    """Records and chunks that were done again, for each lost attempt, in the shard with the most of them."""

    records: float = 0.0
    chunks: float = 0.0


def is_bounded(evidence: Evidence) -> Iterator[str]:
    """No shard does more records again than its lost attempts allow."""
    allowed = evidence.expected.rework_records
    if allowed is None:
        return
    ended = _attempts(evidence)[1]
    for shard, (again, _, lost) in _by_shard(evidence).items():
        # A worker whose time is up may break off in the middle of a record: that one is done again.
        may = allowed * lost + min(allowed, 1) * ended.get(shard, 0)
        if again > may:
            yield f"shard {shard} did {again} records again after {lost} lost attempts; {may} are allowed"


def measure(evidence: Evidence) -> Rework:
    """Return the worst shard's rework."""
    found = [(again / lost, chunks / lost) for again, chunks, lost in _by_shard(evidence).values() if lost]
    return Rework(max((each[0] for each in found), default=0.0), max((each[1] for each in found), default=0.0))


def _by_shard(evidence: Evidence) -> dict[int, tuple[int, int, int]]:
    """Return (records done again, chunks done again, lost attempts) for each shard."""
    size = evidence.expected.record_bytes
    if size == 1:  # records without numbers cannot be counted
        return {}
    shard_at = {chunk: shard for shard, chunks in evidence.shard_chunks.items() for chunk in chunks}
    times: Counter[int] = Counter()
    for work in evidence.history.work:
        if work.job_id == evidence.expected.job_id:
            times[int(work.record.split()[1])] += 1
    again: dict[int, int] = defaultdict(int)
    chunks: dict[int, set[int]] = defaultdict(set)
    for record, number in times.items():
        chunk = next((index for index, (start, end) in evidence.chunks.items() if start <= record * size < end), None)
        if number > 1 and chunk is not None:
            again[shard_at[chunk]] += number - 1
            chunks[shard_at[chunk]].add(chunk)
    lost, _ = _attempts(evidence)
    return {shard: (again[shard], len(chunks[shard]), lost.get(shard, 0)) for shard in again.keys() | lost.keys()}


def _attempts(evidence: Evidence) -> tuple[dict[int, int], dict[int, int]]:
    """Return for each shard how many attempts were lost, and how many ended by themselves and were followed."""
    lost: dict[int, int] = {}
    ended: dict[int, int] = {}
    for _, change in evidence.writes:
        shard = shard_of(change.sk)
        before, after = change.before or {}, change.after or {}
        if shard is None or not before.get("attempt") or after.get("attempt", 0) <= before["attempt"]:
            continue
        by_itself = before.get("finished") or before.get("handed_over") == before["attempt"]
        counted = ended if by_itself else lost
        counted[shard] = counted.get(shard, 0) + 1
    return lost, ended
