"""Bugs put in on purpose: a case that does not find its own proves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from botocore.awsrequest import AWSPreparedRequest

from prove.history import Call
from prove.network import Mutation
from prove.registry import CASES, Trial


@dataclass(frozen=True)
class Mutant:
    """A bug, and the case that must find it."""

    name: str
    case: str
    mutation: Mutation


def _always(picks: Callable[[Call], bool]) -> Mutation:
    """Return what makes the condition of the picked writes hold whatever the item is."""

    def mutate(call: Call, request: AWSPreparedRequest) -> None:
        if picks(call) and "ConditionExpression" in call.request:
            condition = f"attribute_exists(pk) OR ({call.request['ConditionExpression']})"
            request.body = json.dumps(call.request | {"ConditionExpression": condition}).encode()

    return mutate


def _unpin(call: Call, request: AWSPreparedRequest) -> None:
    if call.operation == "GetObject" and call.target == "input":
        request.url = request.url.partition("?")[0]
        call.request.pop("versionId", None)


def _rename(call: Call, request: AWSPreparedRequest) -> None:
    if call.operation != "PutEvents":
        return
    for entry in call.request["Entries"]:
        detail = json.loads(entry["Detail"])
        entry["Detail"] = json.dumps(detail | {"event_id": f"{detail['event_id']}-{call.number}"})


def _drop_last_result(call: Call, request: AWSPreparedRequest) -> None:
    """Let each checkpoint forget the last chunk that it has done."""
    if call.step != "commit":
        return
    values = call.request["ExpressionAttributeValues"]
    parts = values.get(":parts", {}).get("L", [])
    if parts and len(parts[-1]["M"]["lengths"]["L"]) > 1:
        parts[-1]["M"]["lengths"]["L"].pop()
        request.body = json.dumps(call.request).encode()


def _hold_nothing(call: Call, request: AWSPreparedRequest) -> None:
    """Let what is drawn from a budget not be taken from it."""
    values = call.request.get("ExpressionAttributeValues", {})
    if call.step == "take budget" and int(values.get(":held", {}).get("N", 0)) > 0:
        values[":held"] = values[":used"] = {"N": "0"}
        request.body = json.dumps(call.request).encode()


def _misplace_answer(call: Call, request: AWSPreparedRequest) -> None:
    """Let the answer of a step be stored where nobody looks for it."""
    if call.step == "create step":
        call.request["Item"]["sk"]["S"] = call.request["Item"]["sk"]["S"].replace("STEP#", "STEP#x")
        request.body = json.dumps(call.request).encode()


MUTANTS = (
    Mutant("fence removed", "F2", _always(lambda call: call.step == "commit")),
    Mutant("ended jobs can be moved", "F2.merge", _always(lambda call: call.step.startswith("move "))),
    Mutant("input not pinned", "F8", _unpin),
    Mutant("new ID for each copy of an event", "F15", _rename),
    Mutant("checkpoint forgets a chunk", "F1.before-claim", _drop_last_result),
    Mutant("answers are not found again", "F33", _misplace_answer),
    Mutant("nothing is held", "F44", _hold_nothing),
    Mutant("probes are not fenced", "F36.together", _always(lambda call: call.step == "set breaker")),
)

MAX_SEEDS = 10
"""With one of these seeds the case must find the bug."""


def found_by(mutant: Mutant) -> int | None:
    """Return the first seed with which the case finds the bug, or None."""
    for seed in range(MAX_SEEDS):
        trial = Trial(seed, mutation=mutant.mutation)
        try:
            CASES[mutant.case].body(trial)
        except Exception:  # a pipeline that breaks in the open was found out too
            return seed
        if trial.violations:
            return seed
    return None
