"""Rules on the job's state: its end, the moves on the way, and that the end stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

from prove.checker.evidence import TERMINAL, Evidence

MAX_ITEM = 400 * 1024
LEGAL = {
    None: {"AWAITING_UPLOAD"},
    "AWAITING_UPLOAD": {"QUEUED", "EXPIRED", "FAILED", "CANCELLED"},
    "QUEUED": {"RUNNING", "FAILED", "CANCELLED"},
    "RUNNING": {"MERGING", "FAILED", "CANCELLED"},
    "MERGING": {"SUCCEEDED", "PARTIAL", "PAUSED", "FAILED", "CANCELLED"},
    "PARTIAL": {"QUEUED"},
    "PAUSED": {"QUEUED", "CANCELLED"},
    "FAILED": {"QUEUED"},
    "CANCELLED": {"QUEUED"},
    "SUCCEEDED": set(),
    "EXPIRED": set(),
}
"""Legal moves; those from a terminal state are redrives."""
_FROZEN = ("state", "output", "receipt", "counts", "cause", "moves", "input", "run")


def ends_as_expected(evidence: Evidence) -> Iterator[str]:
    """The job has ended, in one of the expected states."""
    state = evidence.job.get("state")
    if state not in evidence.expected.ends:
        yield f"the job is {state}, not {' or '.join(sorted(evidence.expected.ends))}: {evidence.job.get('cause')}"


def moves_are_legal(evidence: Evidence) -> Iterator[str]:
    """Every change of state is legal (`LEGAL`) and counted once in `moves`; no other change is counted."""
    for call, change in evidence.job_writes:
        before, after = change.before or {}, change.after or {}
        was, now = before.get("state"), after.get("state")
        if was != now and now not in LEGAL.get(was, set()):
            yield f"{call.actor} moves the job from {was} to {now}"
        counted = after.get("moves", 0) - before.get("moves", 0)
        if change.before and counted != (was != now):
            yield f"{call.actor} counts {counted} moves from {was} to {now}"


def ended_runs_stay(evidence: Evidence) -> Iterator[str]:
    """The result of an ended run never changes, and a run ends only once."""
    ended: dict[int, str] = {}
    for call, change in evidence.job_writes:
        before, after = change.before or {}, change.after or {}
        was, now = before.get("state"), after.get("state")
        if was in TERMINAL and now != "QUEUED":
            changed = [name for name in _FROZEN if before.get(name) != after.get(name)]
            if changed:
                yield f"{call.actor} changes {', '.join(changed)} after the run ended as {was}"
        if now in TERMINAL and was != now:
            run = after.get("run", 0)
            if run in ended:
                yield f"{call.actor} ends run {run} as {now}, which had ended as {ended[run]}"
            ended[run] = str(now)


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """No execution still runs in the end, and no ended job is in the sweep's index."""
    for name, status in evidence.final.runs.items():
        if name.startswith(evidence.expected.job_id) and status == "RUNNING":
            yield f"run {name} is still running"
    if evidence.job.get("state") in TERMINAL and {"open_state", "due_at"} & evidence.job.keys():
        yield "the ended job is still in the index of those that are due"


def items_stay_small(evidence: Evidence) -> Iterator[str]:
    """No item exceeds DynamoDB's limit."""
    for _, change in evidence.writes:
        if change.after is not None and len(json.dumps(change.after, default=str)) > MAX_ITEM:
            yield f"{change.sk} has {len(json.dumps(change.after, default=str)):,} bytes"


def slots_match(evidence: Evidence) -> Iterator[str]:
    """An ended job holds no slot."""
    own = f"{evidence.expected.tenant}/{evidence.expected.job_id}"
    for (_, pk, _), item in evidence.final.items.items():
        if pk == "SLOTS" and own in item.get("members", ()) and evidence.job.get("state") in TERMINAL:
            yield f"the job holds a slot, though it is {evidence.job['state']}"
