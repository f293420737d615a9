"""A model of Step Functions that runs the one state machine, as `stacks/workflow.py` writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from prove.functions import FunctionFailed
from prove.history import Call
from prove.network import Refused
from prove.scheduler import Actor
from prove.surroundings import Surroundings

DEADLINE_SECONDS = 8 * 24 * 3600.0
MAX_PAYLOAD = 262_144
MAX_EVENTS = 25_000
MAX_UNWOKEN = 10
"""Seconds of the longest wait that is not parked."""
_RETRIES = 5
_PATIENT_RETRIES = 1000
_PATIENT = frozenset(
    {
        "Lambda.TooManyRequestsException",
        "Lambda.ServiceException",
        "Lambda.SdkClientException",
        "Lambda.ClientExecutionTimeoutException",
        "StoreUnavailable",
    }
)


@dataclass
class Execution:
    """One run of the state machine."""

    name: str
    input: str
    status: str = "RUNNING"
    error: str = ""
    cause: str = ""
    actors: list[Actor] = field(default_factory=list)
    events: int = 0
    """Length of its own history; each Map child has one of its own."""
    transitions: int = 0
    """States that it has entered, and tries of them that were made again: what Step Functions charges."""


@dataclass
class Callback:
    """A wait that ends when its token is answered."""

    actor: Actor
    waits: bool = False
    """Whether its actor does nothing but wait for it."""
    is_over: bool = False


@dataclass
class Orchestrator:
    """Every execution, and Step Functions' API."""

    world: Surroundings
    concurrency: int = 3
    executions: dict[str, Execution] = field(default_factory=dict)
    ended_badly: Callable[[Execution], None] = lambda _: None
    callbacks: dict[str, Callback] = field(default_factory=dict)
    """By token, the waits that stand."""
    transitions: int = 0
    """Of all executions and their children."""
    loses_time_outs: bool = False
    """Whether waits that nobody ends stand for ever, as those of the local cloud do."""
    map_fails_after: float | None = None
    """Seconds after which every map fails as a whole; none: never."""

    def answer(self, call: Call) -> dict[str, Any]:
        """Answer a request to the API."""
        request = call.request
        if call.operation == "StartExecution":
            return self._start(request["name"], request["input"])
        if call.operation == "SendTaskSuccess":
            return self._answer(request["taskToken"])
        name = request["executionArn"].rpartition(":")[2]
        call.subject = name
        execution = self.executions.get(name)
        if execution is None:
            raise Refused("ExecutionDoesNotExist", f"no execution {name}")
        if call.operation == "StopExecution":
            if execution.status == "RUNNING":
                self._end(execution, "ABORTED", request.get("error", ""), request.get("cause", ""))
            return {"stopDate": 0}
        return self._describe(execution)

    def stop(self, name: str, status: str = "ABORTED") -> None:
        """End an execution from outside: a person, or an outage."""
        self._end(self.executions[name], status, "", "")

    def _start(self, name: str, order: str) -> dict[str, Any]:
        held = self.executions.get(name)
        if held is not None and (held.status != "RUNNING" or held.input != order):
            raise Refused("ExecutionAlreadyExists", f"Execution Already Exists: {name}")
        if held is None:
            execution = self.executions[name] = Execution(name, order)
            simulation = self.world.simulation
            execution.actors.append(simulation.spawn(f"run#{name[-6:]}", lambda: self._drive(execution), delay=0.05))
            execution.actors.append(
                simulation.spawn("deadline", lambda: self._end(execution, "TIMED_OUT", "", ""), delay=DEADLINE_SECONDS)
            )
        return {"executionArn": self._arn(name), "startDate": 0}

    def _answer(self, token: str) -> dict[str, Any]:
        callback = self.callbacks.get(token)
        if callback is None or callback.is_over:
            raise Refused("TaskTimedOut", "Task Timed Out: 'Provided task does not exist anymore'")
        callback.is_over = True
        if callback.waits:
            self.world.simulation.wake(callback.actor)
        return {}

    def _describe(self, execution: Execution) -> dict[str, Any]:
        found = {"executionArn": self._arn(execution.name), "status": execution.status, "startDate": 0}
        if execution.error:
            found |= {"error": execution.error, "cause": execution.cause}
        return found

    def _arn(self, name: str) -> str:
        return f"{self.world.settings.state_machine_arn.replace(':stateMachine:', ':execution:')}:{name}"

    def _end(self, execution: Execution, status: str, error: str, cause: str) -> None:
        if execution.status != "RUNNING":
            return
        execution.status, execution.error, execution.cause = status, error, cause
        self.world.network.note(f"run {execution.name} ends as {status} {error}")
        current = self.world.simulation.current
        for actor in execution.actors:
            # Functions that are at work stay at work: Step Functions ends its own states only.
            if actor is not current:
                self.world.simulation.kill(actor)
        if status != "SUCCEEDED":
            self.ended_badly(execution)

    # The state machine.

    def _drive(self, execution: Execution) -> None:
        state = json.loads(execution.input)
        try:
            self._run(execution, state)
        except FunctionFailed as failed:
            self._end(execution, "FAILED", failed.error, failed.cause)
        else:
            self._end(execution, "SUCCEEDED", "", "")

    def _run(self, execution: Execution, state: dict[str, Any]) -> None:
        try:
            if state.get("salvage"):
                self.world.simulation.sleep(15.0)
            else:
                plan = self._task(execution, "plan", state)
                if plan["outcome"] == "planned":
                    self._map(execution, state, plan)
                elif plan["outcome"] != "complete":
                    return
            self._task(execution, "merge", state)
        except FunctionFailed as failed:
            self._task(execution, "conclude", state | _error(failed))
            raise

    def _map(self, execution: Execution, state: dict[str, Any], plan: dict[str, Any]) -> None:
        try:
            self._shards(execution, state, plan)
        except FunctionFailed as failed:  # merge judges what is there
            self.world.network.note(f"the map of {execution.name} fails: {failed}")

    def _shards(self, execution: Execution, state: dict[str, Any], plan: dict[str, Any]) -> None:
        lines = self.world.read(plan["plan_key"]).splitlines()
        waiting = list(reversed([json.loads(line) for line in lines]))
        simulation = self.world.simulation

        def lane() -> None:
            while waiting:
                item = waiting.pop()
                child = Execution(f"{execution.name}/{item['shard']}", "")
                order = {name: state[name] for name in ("tenant", "job_id", "run")} | {"shard": item}
                try:
                    self._shard(child, order)
                except FunctionFailed as failed:  # all of the children may fail: merge says what is missing
                    self.world.network.note(f"child {child.name} fails: {failed}")

        lanes = [simulation.spawn(f"lane#{number}", lane) for number in range(self.concurrency)]
        execution.actors += lanes
        if self.map_fails_after is not None:
            simulation.sleep(self.map_fails_after)
            for each in lanes:
                simulation.kill(each)
            raise FunctionFailed("States.ResultWriterFailed", "the results could not be written")
        for each in lanes:
            simulation.wait(each)
            if each.error is not None:
                raise each.error

    def _shard(self, child: Execution, order: dict[str, Any]) -> None:
        try:
            while True:
                last = self._task(child, "process", order)
                self._enter(child)
                if last["outcome"] not in ("wait", "continue"):
                    return
                order = order | {"last": last}
                if last["outcome"] == "wait" and not (
                    last.get("timeout", 0) > MAX_UNWOKEN and self._park(child, order, last["timeout"])
                ):
                    self._enter(child)
                    self.world.simulation.sleep(last["seconds"])
                    child.events += 2
        except FunctionFailed as failed:
            self._task(child, "conclude", order | _error(failed))

    def _park(self, child: Execution, order: dict[str, Any], seconds: float) -> bool:
        """Wait until the token is answered or the time is over; false if the token could not be stored."""
        for tried in range(_RETRIES + 1):
            self._enter(child)
            child.events += 6
            token = f"token-{len(self.callbacks) + 1}"
            callback, ends = Callback(self.world.simulation.acting()), self.world.simulation.time + seconds
            self.callbacks[token] = callback
            try:
                self.world.functions.call("park", {"token": token, "state": order})
            except FunctionFailed as failed:
                callback.is_over = True
                self.world.network.note(f"park of {child.name}: {failed}")
                if tried < _RETRIES:
                    delay = min(2.0 ** min(tried, 6), 60.0)
                    self.world.simulation.sleep(self.world.simulation.random.uniform(0.0, delay))
                continue
            if not callback.is_over:
                callback.waits = True
                self.world.simulation.sleep(1e9 if self.loses_time_outs else ends - self.world.simulation.time)
            callback.is_over, callback.waits = True, False
            return True
        return False

    def _enter(self, execution: Execution) -> None:
        execution.transitions += 1
        self.transitions += 1

    def _task(self, execution: Execution, name: str, state: dict[str, Any]) -> Any:
        tried = {True: 0, False: 0}
        while True:
            self._enter(execution)
            execution.events += 5
            if execution.events > MAX_EVENTS:
                raise FunctionFailed("States.Runtime", "The execution reached the maximum number of history events.")
            try:
                answer = self.world.functions.call(name, state)
            except FunctionFailed as failed:
                patient = failed.error in _PATIENT
                tried[patient] += 1
                if tried[patient] > (_PATIENT_RETRIES if patient else _RETRIES):
                    raise
                self.world.network.note(f"{name} of {execution.name}: {failed}")
                delay = min(2.0 ** min(tried[patient] - 1, 6), 60.0)
                self.world.simulation.sleep(self.world.simulation.random.uniform(0.0, delay))
                continue
            if len(json.dumps(answer)) > MAX_PAYLOAD:
                raise FunctionFailed("States.DataLimitExceeded", f"the answer of {name} is too large")
            return answer


def _error(failed: FunctionFailed) -> dict[str, Any]:
    return {"error": {"Error": failed.error, "Cause": failed.cause}}
