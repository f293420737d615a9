"""What the rules look at: one job's part of a history, its items and its objects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from prove.history import Call, Change, Final, History

TERMINAL = frozenset({"SUCCEEDED", "PARTIAL", "PAUSED", "FAILED", "CANCELLED", "EXPIRED"})
_PARTITION = re.compile(r"T#([^#]+)#J#([0-9a-z]+)")
_SHARD = re.compile(r"SHARD#(\d+)")

DROPPED = -1
"""Stands in a record for the chunk of bytes that no longer count."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Deal:
    """What a job's paid calls must come to, and the provider's terms."""

    calls: int
    """Different calls that the job needs."""
    estimate: int
    """What each is reserved at, in nanodollars."""
    at_once: int = 1
    """Calls that one worker makes at a time."""
    cap: int | None = None
    remembers: bool = False
    """Whether the provider charges a key once."""
    cooldown_seconds: float = 0.0
    """How long nobody asks a provider that is down, but for one; 0: not looked at."""


@dataclass(frozen=True)
class Expected:
    """What a job must come to, worked out without the pipeline."""

    job_id: str
    tenant: str
    ends: frozenset[str]
    """The states in which it may end."""
    data: bytes = b""
    output: Callable[[bytes, Iterable[Range]], bytes] | None = None
    """The output of a file without the records that begin in the missing byte ranges; none: not looked at."""
    rework_records: int | None = None
    """Records that may be done again for each attempt that was lost; none: not looked at."""
    record_bytes: int = 1
    deal: Deal | None = None
    """What its paid calls must come to; none: not looked at."""


@dataclass(frozen=True)
class Violation:
    """A rule that was broken, and how."""

    job_id: str
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} (job {self.job_id})"


class Evidence:
    """One job's part of what happened."""

    def __init__(self, history: History, final: Final, expected: Expected) -> None:
        self.history = history
        self.final = final
        self.expected = expected
        self.partition = f"T#{expected.tenant}#J#{expected.job_id}"

    @cached_property
    def writes(self) -> list[tuple[Call, Change]]:
        """Every change of an item of the job, in order."""
        return [(call, each) for call in self.history.calls for each in call.changes if each.pk == self.partition]

    @cached_property
    def job(self) -> dict[str, Any]:
        """The job's item in the end."""
        return self._item("JOB") or {}

    @cached_property
    def job_writes(self) -> list[tuple[Call, Change]]:
        """Every change of the job's own item."""
        return [(call, each) for call, each in self.writes if each.sk == "JOB"]

    @cached_property
    def shards(self) -> dict[int, dict[str, Any]]:
        """Shard number to its record in the end."""
        found = {}
        for (_, pk, sk), item in self.final.items.items():
            if pk == self.partition and (number := shard_of(sk)) is not None:
                found[number] = item
        return found

    @cached_property
    def merged(self) -> dict[int, dict[str, Any]]:
        """Shard number to its record as the merge that ended the job last read them."""
        key = (self.job.get("receipt") or {}).get("key")
        winner = {call.actor for call in self.history.calls if key and call.subject == key and call.applied}
        reads = [call.number for call in self.history.calls if call.actor in winner and call.step == "list shards"]
        found = {}
        for call, change in self.writes:
            number = shard_of(change.sk)
            if number is not None and change.after is not None and call.number <= max(reads, default=0):
                found[number] = change.after
        return found

    @cached_property
    def receipt(self) -> dict[str, Any] | None:
        """The receipt that the job points to."""
        body = self.object(self.job.get("receipt"))
        return None if body is None else json.loads(body)

    @cached_property
    def chunks(self) -> dict[int, Range]:
        """Chunk number to its byte range, as the job's plan says."""
        return {number: bounds for number, bounds, _ in self._planned}

    @cached_property
    def shard_chunks(self) -> dict[int, set[int]]:
        """Shard number to its chunks, as the job's plan says."""
        found: dict[int, set[int]] = {}
        for number, _, shard in self._planned:
            found.setdefault(shard, set()).add(number)
        return found

    @cached_property
    def _planned(self) -> list[tuple[int, Range, int]]:
        found = []
        for line in (self._plan or b"").splitlines():
            shard = json.loads(line)
            bounds = shard["bounds"]
            for offset, (start, end) in enumerate(pairwise(bounds)):
                found.append((shard["first_chunk"] + offset, (start, end), shard["shard"]))
        return found

    @property
    def _plan(self) -> bytes | None:
        """The first run's plan, which holds every chunk; a redrive's may hold only what was missing."""
        prefix = f"t/{self.expected.tenant}/j/{self.expected.job_id}/plan/"
        plans = {key: body for (key, _), body in self.final.objects.items() if key.startswith(prefix)}
        # One that the job does not point to and nobody worked by is what a planner wrote that was taken for dead.
        is_plan = self.job.get("plan") or self.shards
        return plans[min(plans)] if plans and is_plan else None

    def object(self, ref: dict[str, Any] | None) -> bytes | None:
        """Return what a reference names, or None."""
        if not ref:
            return None
        return self.final.objects.get((ref["key"], ref["version_id"]))

    def _item(self, sk: str) -> dict[str, Any] | None:
        found = [item for (_, pk, at), item in self.final.items.items() if pk == self.partition and at == sk]
        return found[0] if found else None


def shard_of(sk: str) -> int | None:
    """Return the number of the shard whose record a sort key names, or None."""
    found = _SHARD.fullmatch(sk)
    return int(found[1]) if found else None


def done_in(record: dict[str, Any]) -> set[int]:
    """Return the chunks that a record holds whole."""
    held = {chunk for lengths in parts_of(record).values() for chunk, _ in lengths}
    return held - {DROPPED, (record.get("open") or {}).get("index", DROPPED)}


def parts_of(record: dict[str, Any]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return a record's parts: (attempt, number), to the (chunk, bytes) in each."""
    return {
        (part["attempt"], part["number"]): [(chunk, size) for chunk, size, *_ in part["lengths"]]
        for part in record.get("parts", [])
    }
