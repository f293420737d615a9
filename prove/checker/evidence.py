"""The evidence for the rules: one job's part of a history, its items and its objects."""

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
"""The chunk number, in a shard record, of bytes that no longer count."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Deal:
    """The expected paid calls of a job, and the provider's terms."""

    calls: int
    """How many different calls the job needs."""
    estimate: int
    """The nanodollars that are held for each call."""
    at_once: int = 1
    """How many calls one worker makes at a time."""
    cap: int | None = None
    remembers: bool = False
    """Whether the provider charges an idempotency key only once."""
    cooldown_seconds: float = 0.0
    """How long all workers but one leave a provider alone that is down; 0: not checked."""


@dataclass(frozen=True)
class Expected:
    """The expected end of a job, worked out without the pipeline."""

    job_id: str
    tenant: str
    ends: frozenset[str]
    """The states in which the job may end."""
    data: bytes = b""
    output: Callable[[bytes, Iterable[Range]], bytes] | None = None
    """Returns the output of a file without the records that begin in the missing byte ranges; None: not checked."""
    rework_records: int | None = None
    """How many records may be done again for each lost attempt; None: not checked."""
    record_bytes: int = 1
    deal: Deal | None = None
    """The expected paid calls of the job; None: not checked."""


@dataclass(frozen=True)
class Violation:
    """A broken rule, and how it was broken."""

    job_id: str
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what} (job {self.job_id})"


class Evidence:
    """One job's part of the history and of the stores."""

    def __init__(self, history: History, final: Final, expected: Expected) -> None:
        self.history = history
        self.final = final
        self.expected = expected
        self.partition = f"T#{expected.tenant}#J#{expected.job_id}"

    @cached_property
    def writes(self) -> list[tuple[Call, Change]]:
        """Every change of an item of the job, in order, with the call that made it."""
        return [(call, each) for call in self.history.calls for each in call.changes if each.pk == self.partition]

    @cached_property
    def job(self) -> dict[str, Any]:
        """The job's final item; empty if there is none."""
        return self._item("JOB") or {}

    @cached_property
    def job_writes(self) -> list[tuple[Call, Change]]:
        """Every change of the job's own item, in order, with the call that made it."""
        return [(call, each) for call, each in self.writes if each.sk == "JOB"]

    @cached_property
    def shards(self) -> dict[int, dict[str, Any]]:
        """The final shard records, by shard number."""
        found = {}
        for (_, pk, sk), item in self.final.items.items():
            if pk == self.partition and (number := shard_of(sk)) is not None:
                found[number] = item
        return found

    @cached_property
    def merged(self) -> dict[int, dict[str, Any]]:
        """The shard records as the merge that ended the job last read them, by shard number."""
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
        """The receipt to which the job points; None if there is none."""
        body = self.object(self.job.get("receipt"))
        return None if body is None else json.loads(body)

    @cached_property
    def chunks(self) -> dict[int, Range]:
        """The byte range of each chunk in the job's plan, by chunk number."""
        return {number: bounds for number, bounds, _ in self._planned}

    @cached_property
    def shard_chunks(self) -> dict[int, set[int]]:
        """The chunk numbers of each shard in the job's plan, by shard number."""
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
        """The plan of the first run, which holds every chunk; a redrive's plan may hold only missing ones."""
        prefix = f"t/{self.expected.tenant}/j/{self.expected.job_id}/plan/"
        plans = {key: body for (key, _), body in self.final.objects.items() if key.startswith(prefix)}
        # If the job points to no plan and has no shards, a planner wrote the plan after it was taken for dead.
        is_plan = self.job.get("plan") or self.shards
        return plans[min(plans)] if plans and is_plan else None

    def object(self, ref: dict[str, Any] | None) -> bytes | None:
        """Return the bytes of the object that a reference names, or None."""
        if not ref:
            return None
        return self.final.objects.get((ref["key"], ref["version_id"]))

    def _item(self, sk: str) -> dict[str, Any] | None:
        found = [item for (_, pk, at), item in self.final.items.items() if pk == self.partition and at == sk]
        return found[0] if found else None


def shard_of(sk: str) -> int | None:
    """Return the shard number in a sort key, or None if it is no shard record's."""
    found = _SHARD.fullmatch(sk)
    return int(found[1]) if found else None


def done_in(record: dict[str, Any]) -> set[int]:
    """Return the chunks that a shard record holds as a whole."""
    held = {chunk for lengths in parts_of(record).values() for chunk, _ in lengths}
    return held - {DROPPED, (record.get("open") or {}).get("index", DROPPED)}


def parts_of(record: dict[str, Any]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return the (chunk, bytes) of each part of a shard record, by the part's (attempt, number)."""
    return {
        (part["attempt"], part["number"]): [(chunk, size) for chunk, size, *_ in part["lengths"]]
        for part in record.get("parts", [])
    }
