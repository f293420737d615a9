"""Rules on paid calls: no stored answer is paid for again, and the budget holds the money before each call."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from prove.checker.evidence import Evidence
from prove.history import Call

GATHER_SECONDS = 5.0
"""How long after a breaker opened a call may still start: it got its permit before, and waited for its reservation."""

OPENED_SECONDS = 30.0
"""How long a provider may be down before its breaker is open."""
_UNHEARD = ("lost", "out of time")
"""The outcomes of calls whose answers did not reach their workers."""


def stored_answers_stay(evidence: Evidence) -> Iterator[str]:
    """No worker makes a call whose answer is stored, except one that was killed, paused or out of time."""
    if evidence.expected.deal is None:
        return
    stored, struck = _stored(evidence), _struck(evidence)
    for call in _asked(evidence):
        at = stored.get(call.subject.upper())  # the provider writes in capitals
        if at is not None and call.number > at and call.actor not in struck:
            yield f"{call.actor} asks about {call.subject!r} though the answer is stored"


def calls_are_paid_once(evidence: Evidence) -> Iterator[str]:
    """Every call is paid for once; only a lost worker's call, or one whose answer was lost, may be paid for again."""
    deal = evidence.expected.deal
    if deal is None:
        return
    paid: dict[str, list[Call]] = defaultdict(list)
    for call in _asked(evidence):
        if call.answer.get("charged"):
            paid[call.subject].append(call)
    if evidence.job.get("state") == "SUCCEEDED" and len(paid) != deal.calls:
        yield f"{len(paid)} different calls were paid for; the job needs {deal.calls}"
    again = [pair for calls in paid.values() for pair in pairwise(calls)]
    if deal.remembers:
        yield from (f"{first.subject!r} is charged twice, though its key is known" for first, _ in again)
    struck = _struck(evidence)
    # A worker that was killed or paused may lose as many calls as it makes at a time; any other worker may lose none.
    # A call that was paid twice counts against its first worker, unless only the second one was struck.
    in_vain: Counter[str] = Counter()
    for first, second in again:
        if first.outcome not in _UNHEARD:
            in_vain[first.actor if first.actor in struck or second.actor not in struck else second.actor] += 1
    for actor, times in in_vain.items():
        if times > (deal.at_once if actor in struck else 0):
            yield f"{times} calls of {actor} are paid for again"


def budget_covers_charges(evidence: Evidence) -> Iterator[str]:
    """The job's budget always counts, as spent or held, at least what was charged, and at most its cap.

    Both may be exceeded by no more than calls cost beyond their estimates.
    """
    deal = evidence.expected.deal
    if deal is None:
        return
    charged = excess = used = 0
    cap = deal.cap
    for call in evidence.history.calls:
        for change in call.changes:
            if change.pk == f"BUDGET#J#{evidence.expected.tenant}#{evidence.expected.job_id}":
                after = change.after or {}
                cap, used = after.get("cap", deal.cap), after.get("used", 0)
                if after.get("held", 0) < 0:
                    yield f"{call.actor} leaves {after['held']} held"
                if cap is not None and used > cap + excess and used > (change.before or {}).get("used", 0):
                    yield f"{call.actor} takes the budget to {used}, above its cap of {cap}"
        if call.step == "ask" and call.job_id == evidence.expected.job_id:
            charged += call.answer.get("charged", 0)
            excess += max(0, call.answer.get("charged", 0) - deal.estimate)
        if used + excess < charged:
            yield f"{charged} were charged when {call.actor} did {call.step!r}, and {used} were spent or held"
            return


def nothing_stays_held(evidence: Evidence) -> Iterator[str]:
    """No budget holds money once the job has ended."""
    if evidence.expected.deal is None:
        return
    for (_, pk, _), item in evidence.final.items.items():
        if pk.startswith("BUDGET#") and item.get("held"):
            yield f"{item['held']} are still held in {pk}"


def one_asks_while_it_is_down(evidence: Evidence) -> Iterator[str]:
    """The breaker of a provider that is down opens soon; from then on only probes are made, a cooldown apart."""
    deal = evidence.expected.deal
    if deal is None or not deal.cooldown_seconds:
        return
    opened = down = asked = None
    for call in evidence.history.calls:
        for state in _breaker_states(call):
            opened, asked = (None, None) if state == "closed" else (opened or call.time, asked)
        if call.step != "ask":
            continue
        down = (down or call.time) if call.outcome in ("down", "denied") else None
        if opened is None:
            if down is not None and call.time > down + OPENED_SECONDS:
                yield f"{call.actor} asks a provider that has been down for {call.time - down:.0f} s"
        elif call.time > opened + GATHER_SECONDS:
            if asked is not None and call.time - asked < deal.cooldown_seconds:
                yield f"{call.actor} asks {call.time - asked:.1f} s after the last"
            asked = call.time


def _breaker_states(call: Call) -> list[str]:
    states = ((each.after or {}).get("state") for each in call.changes if each.pk.startswith("BREAKER#"))
    return [str(state) for state in states if state]


def _asked(evidence: Evidence) -> Iterator[Call]:
    for call in evidence.history.calls:
        if call.step == "ask" and call.job_id == evidence.expected.job_id:
            yield call


def _stored(evidence: Evidence) -> dict[str, int]:
    """Return the number of the call that stored each answer, by the answer's content."""
    found: dict[str, int] = {}
    for call, change in evidence.writes:
        if change.sk.startswith("STEP#") and change.before is None and "answer" in (change.after or {}):
            found.setdefault(json.loads((change.after or {})["answer"])["content"], call.number)
    return found


def _struck(evidence: Evidence) -> set[str]:
    """Return the workers that were killed or paused, or that ran out of time."""
    found = {call.actor for call in evidence.history.calls if call.outcome in ("killed before", "killed after")}
    for note in evidence.history.notes:
        if note.what.startswith(("paused", "killed", "out of memory")):
            found.add(note.actor)
        elif note.what.endswith(" is out of time"):
            found.add(note.what.partition(" ")[0])
    return found
