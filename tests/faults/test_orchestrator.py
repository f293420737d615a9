"""The simulation's model of the state machine and the definition in the template do the same, call by call."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from backhaul.model.errors import MalformedMessage
from backhaul.model.task import RunTask
from prove import bill, orchestrator
from prove.functions import FunctionFailed
from prove.history import Call
from prove.orchestrator import MAX_PAYLOAD, Orchestrator
from prove.scheduler import Simulation
from tests.faults.machine import Machine, State
from tests.infra.conftest import synthesized

ORDER = {"tenant": "TENANT", "job_id": "JOB", "run": 1}
CRASH = FunctionFailed("Runtime.ExitError", "exited without an answer")
THROTTLED = FunctionFailed("Lambda.TooManyRequestsException", "Rate Exceeded.")
TOO_LARGE = {"outcome": "done", "story": "x" * MAX_PAYLOAD}
PLANNED = {"outcome": "planned", "plan_key": "plan"}
SHARDS = [{"shard": 0}, {"shard": 1}]
MANY = 100
"""More than any retries but those after throttling."""
MAX_SECONDS = 10 * 86400.0

Said = tuple[float, str, object]
"""When a function was called, in seconds since the run began, which one, and what it read of its input."""


@dataclass(frozen=True)
class Story:
    """What the functions answer, in the order of their calls; the last answer is given again and again."""

    plan: tuple[Any, ...] = (PLANNED,)
    process: tuple[Any, ...] = ({"outcome": "done", "seconds": 0},)
    merge: tuple[Any, ...] = ({"state": "SUCCEEDED"},)
    conclude: tuple[Any, ...] = ({"outcome": "died"},)
    park: tuple[Any, ...] = (None,)
    """After how many seconds the token is answered that `park` has stored; none: never."""
    order: State = field(default_factory=dict)
    map_fails: str = ""
    """The map's own error, its retries used up; the model's has another name, which goes nowhere."""

    def told(self) -> Callable[[str], Any]:
        """Return a function that gives the next answer of the one that is named, or raises it."""
        left = {name: list(getattr(self, name)) for name in ("plan", "process", "merge", "conclude", "park")}

        def answer(name: str) -> Any:
            found = left[name].pop(0) if len(left[name]) > 1 else left[name][0]
            if isinstance(found, FunctionFailed):
                raise found
            return found

        return answer


@dataclass(frozen=True)
class Course:
    """What came of a story."""

    calls: list[Said]
    ended: tuple[str, str, str]


def read_by(name: str, state: State) -> object:
    """Return what a function reads of its input: a run's function leaves alone what others have left in it."""
    if "shard" in state:
        return state
    if name == "park":
        return state["state"]
    return RunTask.from_state(state), state.get("error") if name == "conclude" else None


def by_the_template(definition: State, functions: dict[str, str], story: Story) -> Course:
    calls: list[Said] = []
    answer = story.told()

    def call(name: str, state: State, time: float) -> Any:
        calls.append((time, name, read_by(name, state)))
        return answer(name)

    ended = Machine(definition, functions, call, SHARDS, story.map_fails).run(ORDER | story.order)
    return Course(calls, ended)


def by_the_model(story: Story) -> Course:
    calls: list[Said] = []
    answer = story.told()
    simulation = Simulation(0)
    simulation.random.uniform = lambda _, most: most  # type: ignore[method-assign]

    def call(name: str, state: State) -> Any:
        calls.append((round(simulation.time), name, read_by(name, state)))  # a run takes a moment to begin
        simulation.sleep(Machine.call_seconds)
        found = answer(name)
        if name == "park" and found is not None:
            request = Call(0, 0.0, "", "", "SendTaskSuccess", "run", "", "", {"taskToken": state["token"]})
            simulation.spawn("waker", lambda: model.answer(request), delay=found)
        return found

    world: Any = SimpleNamespace(
        simulation=simulation,
        functions=SimpleNamespace(call=call),
        network=SimpleNamespace(note=lambda _: None),
        settings=SimpleNamespace(state_machine_arn="arn:aws:states:::stateMachine:runs"),
        read=lambda _: b"" if story.map_fails else b"\n".join(json.dumps(each).encode() for each in SHARDS),
    )
    model = Orchestrator(world, concurrency=1, map_fails_after=0.0 if story.map_fails else None)
    request = {"name": "run", "input": json.dumps(ORDER | story.order)}
    model.answer(Call(0, 0.0, "", "", "StartExecution", "run", "", "", request))
    (execution,) = model.executions.values()
    simulation.run(lambda: execution.status != "RUNNING", longest=MAX_SECONDS)
    simulation.close()
    return Course(calls, (execution.status, execution.error, execution.cause))


@pytest.fixture
def definition() -> State:
    return copy.deepcopy(synthesized().state_machine())


@pytest.fixture
def functions() -> dict[str, str]:
    found = synthesized().of_type("Lambda::Function").items()
    return {f"<{name}.Arn>": each["Properties"]["Handler"].split(".")[1] for name, each in found}


_MUCH = (THROTTLED,) * MANY
_OUTAGE = (
    FunctionFailed("StoreUnavailable", "cause"),
    THROTTLED,
    FunctionFailed("Lambda.ServiceException", "cause"),
    FunctionFailed("Lambda.SdkClientException", "cause"),
    FunctionFailed("Lambda.ClientExecutionTimeoutException", "cause"),
) * 4
CONTINUE = {"outcome": "continue", "seconds": 0}
WAIT = {"outcome": "wait", "seconds": 77}
LONG = {"outcome": "wait", "seconds": 77, "timeout": 3600}
SHORT = {"outcome": "wait", "seconds": 10, "timeout": 10}
LONGER = {"outcome": "wait", "seconds": 11, "timeout": 11}
DONE = {"outcome": "done", "seconds": 0}

STORIES = {
    "planned": Story(),
    "complete": Story(plan=({"outcome": "complete"},)),
    "ended": Story(plan=({"outcome": "ended"},)),
    "salvaged": Story(order={"salvage": True}),
    "not salvaged": Story(order={"salvage": False}),
    "salvage that fails": Story(order={"salvage": True}, merge=(CRASH,)),
    "continued": Story(process=(CONTINUE, WAIT, CRASH, CONTINUE, DONE)),
    "a wait that somebody ends": Story(process=(LONG, DONE), park=(33,)),
    "a wait that nobody ends": Story(process=(LONG, CONTINUE, LONG, DONE)),
    "a wait that is too short to be ended": Story(process=(SHORT, DONE), park=(1,)),
    "a wait that is just long enough": Story(process=(LONGER, DONE), park=(1,)),
    "a wait whose token cannot be stored at first": Story(process=(LONG, DONE), park=(CRASH, THROTTLED, 33)),
    "a wait whose token cannot be stored": Story(process=(LONG, DONE), park=(CRASH,)),
    "a crash": Story(plan=(CRASH, PLANNED), process=(CRASH, CRASH, CRASH, DONE), merge=(CRASH, {"state": "FAILED"})),
    "a plan that crashes": Story(plan=(CRASH,)),
    "a merge that crashes": Story(merge=(CRASH,)),
    "workers that crash": Story(process=(CRASH,)),
    "a worker that crashes after it continued": Story(process=(CONTINUE, CRASH)),
    "a child that fails": Story(process=(CRASH,), conclude=(CRASH,)),
    "a run that cannot be concluded": Story(plan=(CRASH,), conclude=(FunctionFailed("Other", "cause"),)),
    "a plan that says too much": Story(plan=(TOO_LARGE,)),
    "a worker that says too much": Story(process=(TOO_LARGE, DONE)),
    "a merge that says too much": Story(merge=(TOO_LARGE,)),
    "a map that fails": Story(map_fails="States.ExceedToleratedFailureThreshold"),
    "a map that says too much": Story(map_fails="States.DataLimitExceeded"),
    "a map that fails, and its merge": Story(map_fails="States.ResultWriterFailed", merge=(CRASH,)),
    "throttled": Story(plan=(*_MUCH, PLANNED), process=(*_MUCH, DONE), merge=(*_MUCH, {})),
    "throttled and crashed": Story(process=(*[THROTTLED, CRASH, THROTTLED] * MANY,), conclude=(*_MUCH, {})),
    "concluded at last": Story(merge=(CRASH,), conclude=(*_MUCH, {})),
    "an outage": Story(plan=(*_OUTAGE, PLANNED), process=(*_OUTAGE, DONE), merge=(*_OUTAGE, {})),
    "an outage that is concluded": Story(merge=(CRASH,), conclude=(*_OUTAGE, {})),
    "an outage after workers crashed": Story(process=(CRASH,), conclude=(*_OUTAGE, {})),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_the_model_does_what_the_template_says(story: Story, definition: State, functions: dict[str, str]):
    assert by_the_model(story) == by_the_template(definition, functions, story)


def test_waits_stop_growing_where_the_templates_do(definition: State, functions: dict[str, str]):
    states = [*definition["States"].values(), *definition["States"]["shards"]["ItemProcessor"]["States"].values()]
    crashes = [each for state in states for each in state.get("Retry", ()) if each["ErrorEquals"] == ["States.ALL"]]
    longer = 2 * crashes[0]["MaxDelaySeconds"].bit_length()
    for each in crashes:
        each["MaxAttempts"] = longer
    story = STORIES["workers that crash"]
    with mock.patch.object(orchestrator, "_RETRIES", longer):
        assert by_the_model(story) == by_the_template(definition, functions, story)


def test_a_run_lasts_no_longer_than_the_templates(definition: State):
    assert definition["TimeoutSeconds"] == orchestrator.DEADLINE_SECONDS


def test_a_bill_counts_each_function_with_the_memory_that_it_has():
    for name, function in synthesized().functions().items():
        assert bill.LARGE.get(name, bill.MEGABYTES) == function["MemorySize"]


_WHERE = {"StartAt", "Next", "Default", "StringEquals", "BooleanEquals", "ResultPath", "ErrorPath", "CausePath"}
_WHEN = {"ErrorEquals", "Seconds", "SecondsPath", "MaxAttempts", "IntervalSeconds", "BackoffRate"}


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where the definition says where to go, when, how often and with what."""
    if isinstance(value, dict):
        return [each for name, held in value.items() for each in _places(held, (*path, name))]
    if isinstance(value, list):
        return [each for number, held in enumerate(value) for each in _places(held, (*path, number))]
    return [path] if (_WHERE | _WHEN) & set(path[-2:]) else []


_NOT_MODELLED = re.compile(
    # A hundred throttled calls are fewer than a thousand.
    r"Retry\.0\.MaxAttempts$"
    # The model's map fails only when its retries are used up, and nobody reads with what it failed.
    r"|^States\.shards\.(Retry\.|Catch\.\d\.ResultPath)"
)


def _other(held: Any) -> Any:
    match held:
        case bool():
            return not held
        case int():
            return held + 1
        case None:
            return "$"
    return f"{held}x"


def test_a_change_of_the_template_is_noticed(definition: State, functions: dict[str, str]):
    told = [(story, by_the_model(story)) for story in STORIES.values()]
    unnoticed = []
    for path in _places(definition):
        if _NOT_MODELLED.search(".".join(map(str, path))):
            continue
        changed = copy.deepcopy(definition)
        *way, last = path
        holder = reduce(getitem, way, changed)
        holder[last] = _other(holder[last])
        if all(_same(changed, functions, story, course) for story, course in told):
            unnoticed.append(path)
    assert not unnoticed


def _same(definition: State, functions: dict[str, str], story: Story, course: Course) -> bool:
    try:
        found = by_the_template(definition, functions, story)
    except (KeyError, AssertionError, MalformedMessage):  # a state that is not there, an input that cannot be read
        return False
    return found == course
