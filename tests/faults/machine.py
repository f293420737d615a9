"""Runs a state machine's definition as the States Language says; of jitter it takes the longest wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from typing import Any

from prove.functions import FunctionFailed
from prove.orchestrator import MAX_PAYLOAD

State = dict[str, Any]

_KNOWN = {
    "Choice": {"Choices", "Default"},
    "Wait": {"Seconds", "SecondsPath", "Next"},
    "Succeed": set(),
    "Fail": {"ErrorPath", "CausePath"},
    "Task": {"Resource", "Parameters", "TimeoutSecondsPath", "ResultPath", "Retry", "Catch", "Next", "End"},
    "Map": {"ItemReader", "ItemSelector", "ItemProcessor", "MaxConcurrency", "ToleratedFailurePercentage", "Label"}
    | {"ResultWriter", "ResultPath", "Retry", "Catch", "Next"},
}
"""The fields that are understood here: one more may mean another machine."""
_NOT_ALL = {"States.DataLimitExceeded", "States.Runtime"}
"""What `States.ALL` leaves out."""


@dataclass
class Machine:
    """One execution of a definition."""

    definition: State
    functions: dict[str, str]
    """Resource to the function's name."""
    call: Callable[[str, State, float], Any]
    """A function with its name, input and the time; raises `FunctionFailed`."""
    items: list[Any]
    """What the map reads."""
    map_error: str = ""
    """What the map fails with, its retries used up; none: nothing."""
    call_seconds: float = 1.0
    time: float = field(default=0.0, init=False)

    def run(self, order: State) -> tuple[str, str, str]:
        """Return the status, error and cause with which it ends."""
        try:
            self._states(self.definition, order)
        except FunctionFailed as failed:
            return "FAILED", failed.error, failed.cause
        return "SUCCEEDED", "", ""

    def _states(self, definition: State, state: State) -> None:
        name = definition["StartAt"]
        while name:
            found = definition["States"][name]
            assert set(found) <= _KNOWN[found["Type"]] | {"Type"}, f"{name} has a field that is not understood"
            try:
                name, state = self._enter(found, state)
            except FunctionFailed as failed:
                handler = next((each for each in found.get("Catch", ()) if _matches(each, failed)), None)
                if handler is None:
                    raise
                name = handler["Next"]
                state = _put(state, handler["ResultPath"], {"Error": failed.error, "Cause": failed.cause})

    def _enter(self, found: State, state: State) -> tuple[str, State]:
        match found["Type"]:
            case "Choice":
                return next((each["Next"] for each in found["Choices"] if _holds(each, state)), found["Default"]), state
            case "Wait":
                self.time += found["Seconds"] if "Seconds" in found else _get(state, found["SecondsPath"])
            case "Fail":
                raise FunctionFailed(_get(state, found["ErrorPath"]), _get(state, found["CausePath"]))
            case "Task":
                state = _put(state, found.get("ResultPath", "$"), self._task(found, state))
            case "Map":
                self._map(found, state)
                state = _put(state, found.get("ResultPath", "$"), {})
        return found.get("Next", ""), state

    def _task(self, found: State, state: State) -> Any:
        is_parked = found["Resource"].endswith(":lambda:invoke.waitForTaskToken")
        resource, event = found["Resource"], state
        if is_parked:
            assert found["Parameters"]["Payload"] == {"token.$": "$$.Task.Token", "state.$": "$"}
            resource = found["Parameters"]["FunctionName"]
            event = {"token": "", "state": state}
        name, tried = self.functions[resource], [0] * len(found["Retry"])
        while True:
            try:
                began, self.time = self.time, self.time + self.call_seconds
                answer = self.call(name, event, began)
                if is_parked:
                    self._wait(began, answer, _get(state, found["TimeoutSecondsPath"]))
                    answer = {}
                if len(json.dumps(answer)) > MAX_PAYLOAD:
                    raise FunctionFailed("States.DataLimitExceeded", f"the answer of {name} is too large")
            except FunctionFailed as failed:
                number = next((at for at, each in enumerate(found["Retry"]) if _matches(each, failed)), None)
                if number is None or tried[number] >= found["Retry"][number]["MaxAttempts"]:
                    raise
                self.time += _longest_wait(found["Retry"][number], tried[number])
                tried[number] += 1
            else:
                return answer

    def _wait(self, began: float, answered_after: float | None, seconds: float) -> None:
        """Wait until the token is answered, so long after the function has returned, or the time is over."""
        ends = began + seconds
        if answered_after is None or self.time + answered_after > ends:
            self.time = ends
            raise FunctionFailed("States.Timeout")
        self.time += answered_after

    def _map(self, found: State, state: State) -> None:
        if self.map_error:
            raise FunctionFailed(self.map_error)
        assert _get(state, found["ItemReader"]["Parameters"]["Key.$"])
        failed = 0
        for item in self.items:
            selected = {
                name.removesuffix(".$"): item if path == "$$.Map.Item.Value" else _get(state, path)
                for name, path in found["ItemSelector"].items()
            }
            try:
                self._states(found["ItemProcessor"], selected)
            except FunctionFailed:
                failed += 1
        if 100 * failed > found["ToleratedFailurePercentage"] * len(self.items):
            raise FunctionFailed("States.ExceedToleratedFailureThreshold")


def _matches(rule: State, failed: FunctionFailed) -> bool:
    return failed.error in rule["ErrorEquals"] or ("States.ALL" in rule["ErrorEquals"] and failed.error not in _NOT_ALL)


def _longest_wait(retry: State, tried: int) -> float:
    assert retry["JitterStrategy"] == "FULL"
    wait: float = min(retry["IntervalSeconds"] * retry["BackoffRate"] ** tried, retry["MaxDelaySeconds"])
    return wait


def _holds(rule: State, state: State) -> bool:
    if "And" in rule:
        return all(_holds(each, state) for each in rule["And"])
    (kind,) = rule.keys() - {"Variable", "Next"}
    if kind == "IsPresent":
        *way, last = rule["Variable"].removeprefix("$.").split(".")
        return (last in reduce(getitem, way, state)) == rule[kind]
    if kind == "NumericGreaterThan":
        return bool(_get(state, rule["Variable"]) > rule[kind])
    assert kind in ("StringEquals", "BooleanEquals"), kind
    return bool(_get(state, rule["Variable"]) == rule[kind])


def _get(state: State, path: str) -> Any:
    value: Any = state
    for name in path.removeprefix("$.").split("."):
        value = value[name]
    return value


def _put(state: State, path: str | None, value: Any) -> State:
    if path is None:
        return state
    if path == "$":
        return dict(value)
    return state | {path.removeprefix("$."): value}
