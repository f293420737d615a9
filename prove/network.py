"""The network between the stages and AWS: every call hands the baton over, is recorded, and may meet a fault.

It sits below botocore's own retries: a refused or lost request is retried by the real code of botocore.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
from urllib3.exceptions import ProtocolError

from prove.faults import Fault
from prove.history import Call, Change, History, Note
from prove.requests import Key, body_of, keys_written, read_request
from prove.scheduler import Killed, Simulation
from prove.tables import Tables

TRAVEL_SECONDS = (0.001, 0.015)
"""How long a request, and its answer, are under way."""

Model = Callable[[Call], dict[str, Any]]
"""A service that is not moto's: takes a call and returns the JSON of its answer; raises `Refused`."""

Mutation = Callable[[Call, AWSPreparedRequest], None]

_STATUS = {"SlowDown": 503, "ServiceUnavailable": 503, "InternalError": 500, "InternalServerError": 500}


class Refused(Exception):
    """A service's own refusal: an error code and a message."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.code = code


class Network:
    """What lies between one simulation's processes and its stores."""

    def __init__(self, simulation: Simulation, history: History, tables: Tables) -> None:
        self.simulation = simulation
        self.history = history
        self.faults: list[Fault] = []
        self.models: dict[str, Model] = {}
        self.written: list[Callable[[Change], None]] = []
        """Who wants to know of every change of an item: the stream."""
        self.tables = tables
        self.page = 0
        """Items that a Query returns at once; 0: as many as fit."""
        self.mutate: Mutation | None = None
        """Changes requests on their way: a bug that is put in on purpose, which a case must find."""
        self._number = 0

    def send(self, event_name: str, request: AWSPreparedRequest) -> AWSResponse:
        """Carry one request to its store and the answer back, unless a fault says otherwise."""
        _, service, operation = event_name.split(".")
        call = read_request(service, operation, request)
        faults = self.deliver(call)
        if fault := faults.get("refuse"):
            call.outcome = fault.code
            self._travel()
            return _refusal(service, request, fault.code, "an injected fault")
        answer = self._apply(service, event_name, request, call, faults.get("stale"))
        if not self.answers(call, faults):
            raise ConnectionClosedError(endpoint_url=request.url)
        return _broken(answer, call, faults, self.simulation.random.random)

    def deliver(self, call: Call) -> dict[str, Fault]:
        """Bring a call of the acting process to where it goes, and note it; return the faults that it meets."""
        actor = self.simulation.acting()
        call.actor = actor.name
        call.function = actor.name.partition("#")[0]
        faults: dict[str, Fault] = {}
        faults |= {fault.kind: fault for fault in self.faults if fault.strikes(call, self.simulation.random.random)}
        self._travel()
        self._pause(faults.get("pause before"), call)
        self._number += 1
        call.number, call.time = self._number, self.simulation.time
        self.history.calls.append(call)
        if "kill before" in faults:
            self._die(call, "killed before")
        return faults

    def answers(self, call: Call, faults: dict[str, Fault]) -> bool:
        """Bring the answer of a call that had its effect back to who made it; return whether it arrives."""
        if "kill after" in faults:
            self._die(call, "killed after")
        self._pause(faults.get("pause after"), call)
        self._travel()
        if "lost" in faults:
            call.outcome = "lost"
        return "lost" not in faults

    def note(self, what: str) -> None:
        """Record something that the acting process does, or that is done to it."""
        actor = self.simulation.current
        self.history.notes.append(Note(self.simulation.time, actor.name if actor else "-", what))

    def _apply(
        self, service: str, event_name: str, request: AWSPreparedRequest, call: Call, stale: Fault | None
    ) -> AWSResponse:
        if self.mutate is not None:
            self.mutate(call, request)
        if service in self.models:
            return self._ask_model(service, request, call)
        written = keys_written(call) if service == "dynamodb" else ()
        before = {key: self.tables.read(key) for key in written}
        if written:
            self.tables.remember(self.simulation.time)
        if self.page and call.operation == "Query" and "Limit" not in call.request:
            request.body = json.dumps(call.request | {"Limit": self.page}).encode()
        with self._as_of(stale, call):
            answer: Any = _real(_stubber(), event_name, request)
        answer.headers["date"] = format_datetime(self.simulation.now(), usegmt=True)
        call.applied = answer.status_code < 300
        call.outcome = "ok" if call.applied else _code(answer)
        if call.applied:
            call.changes = tuple(self._changes(before))
            if call.operation == "PutObject":
                body = body_of(request)
                call.answer = {"version": answer.headers.get("x-amz-version-id", ""), "size": len(body)}
                call.answer["sha256"] = hashlib.sha256(body).hexdigest()
        return answer  # type: ignore[no-any-return]  # moto's word is not typed

    def _ask_model(self, service: str, request: AWSPreparedRequest, call: Call) -> AWSResponse:
        try:
            call.answer = self.models[service](call)
        except Refused as refused:
            call.outcome = refused.code
            return _refusal(service, request, refused.code, str(refused))
        call.outcome, call.applied = "ok", True
        return _json(request, 200, call.answer)

    @contextmanager
    def _as_of(self, stale: Fault | None, call: Call) -> Iterator[None]:
        if stale is None or call.request.get("ConsistentRead"):
            yield
            return
        self.note(f"reads as of {stale.seconds:g} s ago: {call.step}")
        with self.tables.as_of(self.simulation.time - stale.seconds):
            yield

    def _changes(self, before: dict[Key, dict[str, Any] | None]) -> Iterator[Change]:
        for key, held in before.items():
            after = self.tables.read(key)
            if after != held:
                change = Change(*key, held, after)
                for listener in self.written:
                    listener(change)
                yield change

    def _travel(self) -> None:
        self.simulation.sleep(self.simulation.random.uniform(*TRAVEL_SECONDS))

    def _pause(self, fault: Fault | None, call: Call) -> None:
        if fault is None:
            return
        actor = self.simulation.current
        if actor is not None and actor.context is not None and fault.zombie:
            actor.context.outlives = True
        self.note(f"paused for {fault.seconds:g} s at {call.step}")
        if fault.alone:
            self.simulation.sleep(fault.seconds)
        else:
            self.simulation.freeze(fault.seconds)
        self.note(f"goes on at {call.step}")

    def _die(self, call: Call, outcome: str) -> None:
        call.outcome = outcome
        self.note(f"{outcome} {call.step}")
        actor = self.simulation.current
        if actor is not None:
            self.simulation.kill(actor)
        raise Killed


class _Body(MockRawResponse):
    """A body that breaks off with a reset."""

    def read(self, size: int | None = -1, /, **_: Any) -> bytes:
        piece = super().read(-1 if size is None else size)
        if not piece:
            raise ProtocolError("Connection broken: reset by peer")
        return piece


_real = BotocoreStubber.__call__
_active: list[Network] = []


def _stubber() -> BotocoreStubber:
    from moto.core.models import botocore_stubber

    return botocore_stubber


def _send(stubber: BotocoreStubber, event_name: str, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
    if _active and _active[-1].simulation.current is not None:
        return _active[-1].send(event_name, request)
    return _real(stubber, event_name, request)


@contextmanager
def carried_by(network: Network) -> Iterator[None]:
    """Let this network carry every call that an actor makes inside the block."""
    BotocoreStubber.__call__ = _send  # type: ignore[method-assign, assignment]
    _active.append(network)
    try:
        yield
    finally:
        _active.remove(network)
        BotocoreStubber.__call__ = _real  # type: ignore[method-assign]


def _broken(answer: AWSResponse, call: Call, faults: dict[Any, Fault], roll: Callable[[], float]) -> AWSResponse:
    if call.operation != "GetObject" or answer.status_code >= 300:
        return answer
    body = answer.raw.read()
    if "corrupt" in faults and body:
        at = int(roll() * len(body))
        call.outcome, body = "corrupted", body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    if "reset" in faults:
        call.outcome = "reset"
        return _response(answer.url, answer.status_code, answer.headers, _Body(body[: len(body) // 2]))
    if "truncate" in faults:
        call.outcome, body = "truncated", body[: len(body) // 2]
    return _response(answer.url, answer.status_code, answer.headers, MockRawResponse(body))


def _refusal(service: str, request: AWSPreparedRequest, code: str, message: str) -> AWSResponse:
    status = _STATUS.get(code, 400)
    if service == "s3":
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        return _response(request.url, status, {"Content-Type": "application/xml"}, MockRawResponse(body))
    return _json(request, status, {"__type": f"com.amazonaws.{service}#{code}", "message": message})


def _response(url: str, status: int, headers: Any, raw: MockRawResponse) -> AWSResponse:
    return AWSResponse(url, status, headers, raw)


def _json(request: AWSPreparedRequest, status: int, body: dict[str, Any]) -> AWSResponse:
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    return _response(request.url, status, headers, MockRawResponse(json.dumps(body)))


def _code(answer: AWSResponse) -> str:
    text = answer.content.decode(errors="replace")
    answer.raw.seek(0)
    if text.startswith("{"):
        return str(json.loads(text).get("__type", answer.status_code)).rpartition("#")[2]
    return text.partition("<Code>")[2].partition("</Code>")[0] or str(answer.status_code)
