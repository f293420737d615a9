"""Rules on events: each change of state is announced under one ID, however often it is delivered."""

from __future__ import annotations

import json
from collections.abc import Iterator

from prove.checker.evidence import TERMINAL, Evidence

ANNOUNCED = TERMINAL | {"QUEUED", "RUNNING"}


def one_id_for_each_change(evidence: Evidence) -> Iterator[str]:
    """Every change to an announced state has one event ID, every event tells of a real change, and copies are equal."""
    changes = [
        (str(change.after["state"]), change.after["moves"])
        for _, change in evidence.job_writes
        if change.after is not None and (change.before or {}).get("state") != change.after.get("state")
    ]
    wanted = [(state, f"{evidence.expected.job_id}.{moves}") for state, moves in changes if state in ANNOUNCED]
    copies: dict[tuple[str, str], set[str]] = {}
    for each in evidence.history.published:
        if each.detail.get("job_id") == evidence.expected.job_id:
            key = (each.detail["state"], each.detail["event_id"])
            copies.setdefault(key, set()).add(json.dumps(each.detail, sort_keys=True))
    for state, event_id in wanted:
        if (state, event_id) not in copies:
            yield f"nobody was told that the job became {state} (event {event_id})"
    for (state, event_id), texts in copies.items():
        if (state, event_id) not in wanted:
            yield f"event {event_id} tells of {state}, which did not happen so"
        if len(texts) > 1:
            yield f"event {event_id} went out with {len(texts)} different contents"
    terminal = {event_id for state, event_id in copies if state in TERMINAL}
    ends = sum(state in TERMINAL for state, _ in changes)
    if len(terminal) != ends:
        yield f"{len(terminal)} terminal event IDs for {ends} ends"
