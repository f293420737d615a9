"""The functions as AWS calls them: real envelopes in, real envelopes out, and logs that give nothing away."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import logging
import sys
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from backhaul.model import errors, keys
from backhaul.model.idempotency import new_key
from backhaul.model.job import JobRef, JobState
from backhaul.store.callbacks import Callbacks
from backhaul.worker.time_limit import MAX_REQUEST_SECONDS

SECRET = "s3cret-of-the-caller@example.com"
DATA = f"one line\n{SECRET}\n".encode()
USER = "AIDAEXAMPLE"
NAME = "Second-dev"
"""Of the deployment."""
STAGES = (
    "estimate",
    "submit",
    "dispatch",
    "plan",
    "process",
    "merge",
    "announce",
    "inquire",
    "command",
    "conclude",
    "sweep",
    "park",
    "wake",
)


@dataclass
class Context:
    """What Lambda tells a function of its invocation."""

    function_name: str = "function"
    memory_limit_in_mb: int = 1024
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:function"
    aws_request_id: str = "52fdfc07-2182-154f-163f-5f0f9a621d72"

    def get_remaining_time_in_millis(self) -> int:
        return 300_000


class Functions:
    """The handlers of one deployment, imported afresh with its settings in the environment."""

    def __getattr__(self, stage: str) -> Any:
        module = importlib.import_module(f"lambdas.{stage}")
        return lambda event: json.loads(json.dumps(module.handler(event, Context())))


@pytest.fixture
def functions(deployment, monkeypatch):
    for name, value in deployment.settings.to_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", "INFO")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", NAME)
    forget()
    yield Functions()
    forget()


def forget() -> None:
    """Let the next import be the first of its process; the logger is kept by its name, with where it writes to."""
    logging.Logger.manager.loggerDict.pop(NAME, None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "lambdas"]:
        del sys.modules[name]


def module(stage: str) -> ModuleType:
    return importlib.import_module(f"lambdas.{stage}")


def request(
    method: str, path: str, *, body: Any = None, user: str | None = USER, query: dict[str, str] | None = None
) -> dict[str, Any]:
    """An event of an HTTP API with payload format 2.0, behind an IAM authorizer."""
    event = {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "&".join(f"{name}={value}" for name, value in (query or {}).items()),
        "headers": {"content-type": "application/json", "host": "abc.execute-api.us-east-1.amazonaws.com"},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": "abc.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abc",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": "python-httpx",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": f"{method} {path}",
            "stage": "$default",
            "time": "22/Nov/2026:12:00:00 +0000",
            "timeEpoch": 1795348800000,
        },
        "isBase64Encoded": False,
    }
    if user is not None:
        event["requestContext"]["authorizer"] = {
            "iam": {
                "accessKey": "AKIAEXAMPLE",
                "accountId": "123456789012",
                "callerId": user,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": "arn:aws:iam::123456789012:user/someone",
                "userId": user,
            }
        }
    if query:
        event["queryStringParameters"] = query
    if body is not None:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


def wanted(**changes: Any) -> dict[str, Any]:
    return {"processor": "text-stats", "file_name": "a.txt", "size": len(DATA)} | changes


def answered(answer: dict[str, Any]) -> tuple[int, Any]:
    assert answer["headers"]["Content-Type"] == "application/json"
    return answer["statusCode"], json.loads(answer["body"])


def refused(answer: dict[str, Any], status: int, code: str) -> str:
    got, body = answered(answer)
    assert body.keys() == {"error"}
    assert (got, body["error"]["code"]) == (status, code)
    message: str = body["error"]["message"]
    assert message.endswith((".", "`"))
    return message


def sqs(*bodies: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"message-{number}",
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": "1795348800000",
                    "SenderId": "AIDAJXNJGGKNS7OSV23OI",
                    "ApproximateFirstReceiveTimestamp": "1795348800001",
                },
                "messageAttributes": {},
                "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:intake",
                "awsRegion": "us-east-1",
            }
            for number, body in enumerate(bodies)
        ]
    }


def submitted(functions: Any, deployment: Any, **changes: Any) -> tuple[Any, str]:
    """A job made by the API and its file uploaded; returns its ref and S3's message."""
    status, body = answered(functions.submit(request("POST", "/jobs", body=wanted(**changes))))
    assert status == 202
    ref = keys.job_of_input(body["upload"]["fields"]["key"])
    return ref, deployment.notification(deployment.put_input(ref, DATA))


def started(functions: Any, deployment: Any, **changes: Any) -> dict[str, Any]:
    """A job whose run has begun; returns what Step Functions hands to its states."""
    _, message = submitted(functions, deployment, **changes)
    assert functions.dispatch(sqs(message)) == {"batchItemFailures": []}
    state: dict[str, Any] = json.loads(deployment.executions()[-1].execution_input)
    return state


def lines_of(deployment: Any, planned: dict[str, Any]) -> list[dict[str, Any]]:
    stored = deployment.s3.get_object(Bucket="data", Key=planned["plan_key"])
    return [json.loads(line) for line in stored["Body"].read().splitlines()]


def stream_event(deployment: Any) -> dict[str, Any]:
    """The stream so far as Lambda gets it: in JSON, with times in seconds."""
    return json.loads(json.dumps({"Records": deployment.stream()}, default=lambda moment: moment.timestamp()))


def run_through(functions: Any, deployment: Any, **changes: Any) -> dict[str, Any]:
    state = started(functions, deployment, **changes)
    planned = functions.plan(state)
    assert planned["outcome"] == "planned"
    for line in lines_of(deployment, planned):
        parking = {"timeout": 0, "provider": "", "epoch": 0, "settings": ""}
        left = {"schema_version": 1, "outcome": "done", "seconds": 0, "attempt": 1, "overtaken": False} | parking
        assert functions.process(state | {"shard": line}) == left
    return state | functions.merge(state)


# --- the whole way


def test_a_job_goes_all_the_way_through_the_functions(deployment, functions):
    state = run_through(functions, deployment)
    assert state["state"] == "SUCCEEDED"
    status, view = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}")))
    assert (status, view["state"], view["progress"]) == (200, "SUCCEEDED", 1)
    status, download = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}/result")))
    assert (status, download["file_name"]) == (200, "text-stats-a.txt")
    status, receipt = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}/receipt")))
    assert (status, receipt["file_name"]) == (200, f"{state['job_id']}-receipt.json")
    status, page = answered(functions.inquire(request("GET", "/jobs", query={"limit": "1", "state": "SUCCEEDED"})))
    assert ([job["job_id"] for job in page["jobs"]], page["next"]) == ([state["job_id"]], None)
    assert functions.announce(stream_event(deployment)) == {"batchItemFailures": []}


def test_every_stage_has_a_function_of_its_name_and_nothing_else_has():
    folder = Path(__file__).parents[2]
    files = {path.stem for path in (folder / "lambdas").glob("*.py")} - {"__init__", "http", "runtime"}
    stages = {path.stem for path in (folder / "backhaul/stages").glob("*.py")} - {"__init__"}
    assert files == stages == set(STAGES)


def test_a_function_with_a_wrong_setting_dies_on_import_and_names_it(deployment, functions, monkeypatch):
    monkeypatch.setenv("BACKHAUL_RETENTION_DAYS", "a month")
    with pytest.raises(errors.InvalidSettings, match="BACKHAUL_RETENTION_DAYS"):
        module("sweep")


def test_a_shard_that_waits_leaves_its_token_and_is_woken_by_what_the_stream_says(deployment, functions, monkeypatch):
    answered = []
    monkeypatch.setattr(Callbacks, "answer", lambda _, token: answered.append(token) or True)
    task = deployment.start("text-stats", b"one line\n")
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    state = {"tenant": task.job.tenant, "job_id": task.job.job_id, "run": task.run}
    last = {"outcome": "wait", "seconds": 600, "attempt": 1, "timeout": 600}
    state |= {"shard": json.loads(shard.shard.to_line()), "last": last}
    assert functions.park({"token": "a token", "state": state}) is None
    (parked,) = deployment.store.waits.of_job(task.job)
    assert parked.token == "a token"
    deployment.cancel(task.job)
    assert functions.wake({"Records": deployment.stream()}) == {"batchItemFailures": []}
    assert answered == ["a token"]


# --- the API


def test_the_processors_are_told_with_their_options(functions):
    status, body = answered(functions.inquire(request("GET", "/processors")))
    assert status == 200
    described = {each["name"]: each for each in body["processors"]}
    assert {"redact", "text-stats"} <= described.keys()
    assert {option["name"] for option in described["text-stats"]["options"]} == {"top", "chunk_bytes"}


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (wanted(processor="nope"), "unknown_processor", "text-stats"),
        (wanted(options={"tpo": 1}), "invalid_option", "top"),
        (wanted(options={"top": "many"}), "invalid_option", "top"),
        (wanted(size=0), "invalid_request", "empty"),
        (wanted(size=6 * 1024**3), "invalid_request", "5,368,709,120"),
        (wanted(sha256="x"), "invalid_request", "sha256"),
        (wanted(bucket="mine"), "invalid_request", "bucket"),
        (wanted(policy={"max_tries": 0}), "invalid_request", "$.policy.max_tries"),
        (wanted(policy={"tolerate": "half"}), "invalid_request", "$.policy.tolerate"),
        (wanted(policy={"retries": 3}), "invalid_request", "retries"),
        ("{", "invalid_request", "POST /jobs"),
        ("", "invalid_request", "POST /jobs"),
        (None, "invalid_request", "POST /jobs"),
        ("[" * 100_000, "invalid_request", "recursion"),
    ],
)
def test_a_wrong_request_is_answered_with_a_code_and_a_sentence(functions, body, code, said):
    assert said in refused(functions.submit(request("POST", "/jobs", body=body)), 400, code)


def test_an_estimate_is_made_of_a_sample_and_of_counts(functions):
    asked = {"processor": "text-stats", "size": 2_000_000, "sample": "one line\n" * 100}
    status, made = answered(functions.estimate(request("POST", "/estimate", body=asked)))
    assert (status, made["chunks"], made["records"]["likely"]) == (200, 8, 222_222)
    assert made["cost"] == {"low": "0.00", "likely": "0.00", "high": "0.00"}
    del asked["sample"]
    asked["expected"] = {"bytes": 2_000_000, "records": 5, "chunks": 8}
    status, made = answered(functions.estimate(request("POST", "/estimate", body=asked)))
    assert (status, made["records"]) == (200, {"low": 5, "likely": 5, "high": 5})


def test_a_wrong_estimate_is_refused_and_nothing_of_it_is_logged(functions, capsys):
    asked = {"processor": "text-stats", "size": 30, "sample": f"{SECRET}\0", "options": {}}
    refused(functions.estimate(request("POST", "/estimate", body=asked | {"size": 100})), 400, "unsuitable_input")
    unknown = {"provider": "nope", "calls": 1, "input_tokens": 1}
    asked |= {"sample": None, "expected": {"bytes": 30, "records": 1, "chunks": 1, "calls": [unknown]}}
    assert "'nope'" in refused(functions.estimate(request("POST", "/estimate", body=asked)), 400, "invalid_request")
    refused(functions.estimate(request("POST", "/estimate", body=asked, user=None)), 400, "invalid_request")
    assert SECRET not in capsys.readouterr().out


def test_a_submission_that_came_twice_with_one_key_is_one_job_and_counted_once(functions, capsys):
    event = request("POST", "/jobs", body=wanted())
    event["headers"]["idempotency-key"] = new_key(datetime.now(UTC))
    first, second = answered(functions.submit(event)), answered(functions.submit(event))
    assert (first[0], second[0]) == (202, 202)
    assert first[1]["job"] == second[1]["job"]
    assert capsys.readouterr().out.count('"JobsSubmitted":[1') == 1


def schema_of(properties: int = 1, depth: int = 0) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(properties)}}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def asks(**options: Any) -> dict[str, Any]:
    return {"processor": "prompt", "options": {"provider": "acme", "prompt": "{{record}}"} | options}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"processor": "redact", "options": {"patterns": {"X": r"(?:|){30}\b"}}}, "takes longer than 2 s. Simplify"),
        ({"processor": "redact", "options": {"patterns": {"X": r"(?:){4000000000}\b"}}}, "takes longer than 2 s"),
        (asks(schema=schema_of(30_000)), "16,384 at most are allowed"),
        (asks(schema=schema_of(depth=100)), "nested too deeply"),
        (asks(schema=json.dumps(schema_of(depth=100))), "nested too deeply"),
        (asks(schema='{"a":' * 1500), "nested too deeply"),
        (asks(schema=schema_of() | {"default": json.loads("[" * 800 + "]" * 800)}), "nested too deeply"),
        (asks(prompt="{{" + " " * 200_000), "16,384 at most are allowed"),
        (asks(prompt="{{" + " " * 16_000), "names 0 fields"),
        (
            {"processor": "text-stats", "options": {"top": [{} for _ in range(1_000_000)]}},
            "2,097,152 at most are allowed",
        ),
    ],
    ids=["backtracking", "repetition", "wide", "deep", "deep-text", "open", "deep-default", "spaces", "fewer", "body"],
)
@pytest.mark.parametrize("stage", ["submit", "estimate"])
def test_what_would_take_long_is_refused_within_the_time_limit(functions, stage, asked, said):
    path, rest = {"submit": ("/jobs", {"file_name": "a.txt"}), "estimate": ("/estimate", {"sample": "hello"})}[stage]
    event = request("POST", path, body=json.dumps(asked | {"size": 5} | rest))
    functions.submit(request("POST", "/jobs", body=wanted(size=0)))  # imports
    began = time.monotonic()
    answer = getattr(functions, stage)(event)
    took = time.monotonic() - began
    assert said in refused(answer, 400, "invalid_request" if "2,097" in said else "invalid_option")
    assert took < 2 * MAX_REQUEST_SECONDS


def test_the_largest_schema_that_fits_is_checked_in_time(functions):
    functions.submit(request("POST", "/jobs", body=wanted(**asks(schema=schema_of(580)))))
    sample = {"size": 10**6, "sample": "[1]\n[2]\n"}
    status, body = answered(functions.estimate(request("POST", "/estimate", body=asks(schema=schema_of(580)) | sample)))
    assert (status, body["error"]["code"]) == (400, "invalid_request")  # the next thing that is looked at: its provider
    assert "acme" in body["error"]["message"]


def test_a_body_that_came_in_base64_is_read(functions):
    event = request("POST", "/jobs", body=base64.b64encode(json.dumps(wanted()).encode()).decode())
    assert functions.submit(event | {"isBase64Encoded": True})["statusCode"] == 202


def test_a_body_that_is_no_text_is_the_callers_mistake(functions):
    event = request("POST", "/jobs", body=base64.b64encode(b"\xff\xfe\x00").decode())
    refused(functions.submit(event | {"isBase64Encoded": True}), 400, "invalid_request")


@pytest.mark.parametrize("user", [None, "", "../T2", "123456789012:federated"])
def test_a_caller_without_an_identity_of_its_own_is_refused(functions, user):
    for answer in (
        functions.submit(request("POST", "/jobs", body=wanted(), user=user)),
        functions.inquire(request("GET", "/jobs", user=user)),
        functions.inquire(request("GET", "/processors", user=user)),
    ):
        assert "ign" in refused(answer, 400, "invalid_request")


def test_another_tenants_job_is_a_missing_one(deployment, functions):
    ref, _ = submitted(functions, deployment)
    for path in (f"/jobs/{ref.job_id}", f"/jobs/{ref.job_id}/result", f"/jobs/{ref.job_id}/receipt"):
        refused(functions.inquire(request("GET", path, user="AIDAEXAMPLE2")), 404, "job_not_found")
    status, page = answered(functions.inquire(request("GET", "/jobs", user="AIDAEXAMPLE2")))
    assert (status, page) == (200, {"jobs": [], "next": None})


@pytest.mark.parametrize("job_id", ["nope", "0" * 26, "%2e%2e", "a" * 3000])
def test_a_missing_job_is_404(functions, job_id):
    refused(functions.inquire(request("GET", f"/jobs/{job_id}")), 404, "job_not_found")


def test_a_result_before_the_end_is_409(deployment, functions):
    ref, _ = submitted(functions, deployment)
    answer = functions.inquire(request("GET", f"/jobs/{ref.job_id}/result"))
    assert "AWAITING_UPLOAD" in refused(answer, 409, "result_not_ready")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "x"},
        {"limit": "-1"},
        {"limit": "0"},
        {"limit": "٣"},
        {"limit": "9" * 5000},
        {"state": "DONE"},
        {"after": "x"},
    ],
)
def test_a_wrong_query_is_400(functions, query):
    refused(functions.inquire(request("GET", "/jobs", query=query)), 400, "invalid_request")


@pytest.mark.parametrize(
    ("stage", "method", "path"),
    [
        ("inquire", "GET", "/"),
        ("inquire", "GET", "/jobs/x/y/z"),
        ("inquire", "DELETE", "/jobs"),
        ("submit", "GET", "/jobs"),
        ("submit", "POST", "/other"),
    ],
)
def test_a_route_that_is_none_is_404(functions, stage, method, path):
    refused(getattr(functions, stage)(request(method, path)), 404, "no_such_route")


def every_error(root: type[errors.BackhaulError] = errors.BackhaulError) -> list[type[errors.BackhaulError]]:
    return [root, *(each for child in root.__subclasses__() for each in every_error(child))]


def an(error: type[errors.BackhaulError]) -> errors.BackhaulError:
    arguments: dict[type, tuple[Any, ...]] = {
        errors.UnknownProcessor: (SECRET, ["a"]),
        errors.UnsuitableInput: (SECRET, 5),
        errors.RequestRefused: ("some_code", SECRET, 418),
        errors.RunNotFound: (SECRET, 3),
        errors.ForeignObject: (SECRET, "a key"),
    }
    return error(*arguments.get(error, (SECRET,)))


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_answered_by_who_must_act(functions, monkeypatch, kind, capsys):
    error = an(kind)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(module("inquire"), "list_jobs", fail)
    status, body = answered(functions.inquire(request("GET", "/jobs")))
    if isinstance(error, errors.CallerError):
        assert (status, body["error"]) == (error.status, {"code": error.code, "message": str(error)})
        assert 400 <= status < 500
    else:
        assert (status, body["error"]["code"]) == (500, "internal")
        assert SECRET not in json.dumps(body)
        assert SECRET in capsys.readouterr().out


def test_what_went_wrong_inside_is_logged_and_not_told(functions, monkeypatch, capsys):
    monkeypatch.setattr(module("inquire"), "list_jobs", lambda *_, **__: 1 / 0)
    status, body = answered(functions.inquire(request("GET", "/jobs")))
    assert (status, body["error"]["code"]) == (500, "internal")
    assert "ZeroDivision" not in json.dumps(body)
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (line,) = [line for line in logged if line["level"] == "ERROR"]
    assert (line["tenant"], line["exception_name"]) == (USER, "ZeroDivisionError")


# --- what a tenant asks of its jobs


def asked(functions: Any, job_id: str, what: str, body: Any = None, user: str = USER) -> dict[str, Any]:
    answer: dict[str, Any] = functions.command(request("POST", f"/jobs/{job_id}/{what}", body=body, user=user))
    return answer


def test_a_job_that_waits_is_cancelled_at_once_and_one_that_runs_says_that_it_stops(deployment, functions):
    waiting, _ = submitted(functions, deployment)
    status, view = answered(asked(functions, waiting.job_id, "cancel", {"reason": "a mistake"}))
    assert (status, view["state"]) == (202, "CANCELLED")
    assert view["cause"]["message"] == "The job was cancelled: a mistake"
    state = started(functions, deployment)
    status, view = answered(asked(functions, state["job_id"], "cancel"))
    assert (status, view["state"], view["stopping"]["code"]) == (202, "RUNNING", "cancelled")
    functions.plan(state)
    assert functions.merge(state) == {"state": "CANCELLED"}


def test_a_job_is_redriven_with_what_is_missing_and_its_earlier_run_can_still_be_fetched(deployment, functions):
    state = started(functions, deployment, options={"chunk_bytes": 9})
    lines = lines_of(deployment, functions.plan(state))
    functions.process(state | {"shard": lines[0]})
    assert functions.merge(state) == {"state": "PARTIAL"}
    status, body = answered(asked(functions, state["job_id"], "redrive", {"only_failed": False}))
    missing = sum(len(line["bounds"]) - 1 for line in lines[1:])
    assert (status, body["started"], body["chunks"]) == (202, True, missing)
    assert (body["job"]["run"], body["job"]["state"]) == (2, "RUNNING")
    again = state | {"run": 2}
    for line in lines_of(deployment, functions.plan(again)):
        functions.process(again | {"shard": line})
    assert functions.merge(again) == {"state": "SUCCEEDED"}
    for run, size in ((None, 200), ("1", 200), ("2", 200)):
        query = {"run": run} if run else None
        status, _ = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}/result", query=query)))
        assert status == size
    for run, (status, code) in {"3": (404, "run_not_found"), "x": (400, "invalid_request")}.items():
        answer = functions.inquire(request("GET", f"/jobs/{state['job_id']}/receipt", query={"run": run}))
        refused(answer, status, code)
    status, body = answered(asked(functions, state["job_id"], "redrive"))
    assert (status, body["started"], body["chunks"]) == (200, False, 0)


def test_what_cannot_be_cancelled_or_redriven_is_refused_with_the_reason(deployment, functions):
    ref, _ = submitted(functions, deployment)
    refused(asked(functions, ref.job_id, "redrive"), 409, "job_not_ended")
    state = run_through(functions, deployment)
    refused(asked(functions, state["job_id"], "cancel"), 409, "job_has_ended")
    asked(functions, ref.job_id, "cancel")
    refused(asked(functions, ref.job_id, "redrive"), 409, "not_redrivable")


@pytest.mark.parametrize("what", ["cancel", "redrive"])
def test_a_command_on_another_tenants_job_is_404_and_does_nothing(deployment, functions, what):
    ref, _ = submitted(functions, deployment)
    refused(asked(functions, ref.job_id, what, user="AIDAEXAMPLE2"), 404, "job_not_found")
    refused(asked(functions, "nope", what), 404, "job_not_found")
    assert deployment.job(ref).state is JobState.AWAITING_UPLOAD


@pytest.mark.parametrize("what", ["cancel", "redrive", "budget"])
@pytest.mark.parametrize("body", ["{", "[]", {"force": True}, {"reason": 5}, {"only_failed": "yes"}, "[" * 100_000])
def test_a_wrong_command_is_400(deployment, functions, what, body):
    ref, _ = submitted(functions, deployment)
    assert "request body" in refused(asked(functions, ref.job_id, what, body), 400, "invalid_request")


# --- money


def test_a_budget_is_raised_and_told(deployment, functions, capsys):
    state = started(functions, deployment)
    status, body = answered(asked(functions, state["job_id"], "budget", {"max_cost": 2.5, "reason": SECRET}))
    assert (status, body["started"], body["exceeded"], body["chunks"]) == (200, False, False, 0)
    assert body["job"]["cost"] == {"max_cost": "2.50", "spent": "0.00", "held": "0.00", "saved": "0.00", "usage": {}}
    _, view = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}")))
    assert view["cost"] == body["job"]["cost"]
    assert SECRET not in capsys.readouterr().out


def test_a_budget_of_another_tenants_job_is_404_and_stays(deployment, functions):
    state = started(functions, deployment)
    wish = {"max_cost": "5"}
    refused(asked(functions, state["job_id"], "budget", wish, user="AIDAEXAMPLE2"), 404, "job_not_found")
    refused(asked(functions, "nope", "budget", wish), 404, "job_not_found")
    _, view = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}")))
    assert view["cost"] is None


@pytest.mark.parametrize(
    "amount",
    ["NaN", "-1", -1, 0, "0", "1e400", "five", "$5", "", None, True, [], {}, 10**400, "1." + "0" * 9999, 0.1 + 0.2],
)
def test_what_is_no_amount_of_a_budget_is_400(deployment, functions, amount):
    state = started(functions, deployment)
    refused(asked(functions, state["job_id"], "budget", {"max_cost": amount}), 400, "invalid_request")
    body = json.dumps({"max_cost": 1}).replace("1", "1e400")
    refused(asked(functions, state["job_id"], "budget", body), 400, "invalid_request")
    refused(
        functions.submit(request("POST", "/jobs", body=wanted(policy={"max_cost": amount or -1}))),
        400,
        "invalid_request",
    )
    _, view = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}")))
    assert view["cost"] is None


def test_a_budget_of_a_job_that_ended_for_good_is_409(deployment, functions):
    state = run_through(functions, deployment)
    refused(asked(functions, state["job_id"], "budget", {"max_cost": "5"}), 409, "job_has_ended")


def test_usage_is_asked_for_by_days(functions):
    assert answered(functions.inquire(request("GET", "/usage"))) == (200, {"days": []})
    query = {"from": "2026-11-01", "to": "2026-11-22"}
    assert answered(functions.inquire(request("GET", "/usage", query=query))) == (200, {"days": []})
    refused(functions.inquire(request("GET", "/usage", query={"from": "1e9"})), 400, "invalid_request")


# --- the queue


def test_only_the_malformed_message_of_a_batch_comes_back(deployment, functions, capsys):
    refs, messages = zip(*(submitted(functions, deployment) for _ in range(2)), strict=True)
    unknown = deployment.notification(deployment.put_input(refs[0], DATA)).replace(refs[0].job_id, "0" * 26)
    answer = functions.dispatch(sqs(messages[0], "{not json", messages[1], unknown, '{"Event":"s3:TestEvent"}'))
    assert answer == {
        "batchItemFailures": [{"itemIdentifier": "message-1"}, {"itemIdentifier": "message-3"}],
    }
    assert {deployment.job(ref).state for ref in refs} == {JobState.RUNNING}
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [line["exception_name"] for line in logged if line.get("level") == "WARNING"]
    assert said == ["MalformedMessage", "JobNotFound"]


def test_a_batch_of_which_all_fails_comes_back_whole_and_leaves_nothing_for_the_next(deployment, functions):
    assert functions.dispatch(sqs("x", "y")) == {
        "batchItemFailures": [{"itemIdentifier": "message-0"}, {"itemIdentifier": "message-1"}],
    }
    _, message = submitted(functions, deployment)
    assert functions.dispatch(sqs(message)) == {"batchItemFailures": []}


def ending(state: dict[str, Any]) -> dict[str, Any]:
    """The event of a job that has ended, as the bus hands it on."""
    return {
        "version": "0",
        "id": "6a7e8feb-b491-4cf7-a9f1-bf3703467718",
        "detail-type": "Job Succeeded",
        "source": "backhaul",
        "account": "123456789012",
        "time": "2026-11-22T12:00:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": {"schema_version": 1, "tenant": state["tenant"], "job_id": state["job_id"], "state": "SUCCEEDED"},
    }


def test_the_end_of_a_job_hands_its_slot_to_the_next(deployment, functions, monkeypatch):
    monkeypatch.setenv("BACKHAUL_MAX_RUNNING_JOBS", "1")
    state = run_through(functions, deployment)
    waiting, message = submitted(functions, deployment)
    functions.dispatch(sqs(message))
    assert deployment.job(waiting).state is JobState.QUEUED
    _, view = answered(functions.inquire(request("GET", f"/jobs/{waiting.job_id}")))
    assert view["waiting_for"] == ["a slot: 1 of 1 jobs run"]
    assert functions.dispatch(ending(state)) == {"started": 1}
    _, view = answered(functions.inquire(request("GET", f"/jobs/{waiting.job_id}")))
    assert view["waiting_for"] == []
    assert deployment.job(waiting).state is JobState.RUNNING
    assert functions.dispatch(ending(state)) == {"started": 0}


# --- the stream


def test_an_event_that_the_bus_refuses_is_read_again_from_there(deployment, functions, monkeypatch):
    run_through(functions, deployment)
    event = stream_event(deployment)
    bus = module("runtime").store.bus
    monkeypatch.setattr(type(bus), "publish", lambda _, events: [events[1]])
    (failed,) = functions.announce(event)["batchItemFailures"]
    announced = [
        record["dynamodb"]["SequenceNumber"]
        for record in event["Records"]
        if record["dynamodb"].get("NewImage", {}).get("state", {}).get("S") == "RUNNING"
    ]
    assert failed == {"itemIdentifier": announced[0]}


# --- endings


def status_change(state: dict[str, Any], status: str, **detail: Any) -> dict[str, Any]:
    name = f"{state['job_id']}-{state['run']}"
    return {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73e60175",
        "detail-type": "Step Functions Execution Status Change",
        "source": "aws.states",
        "account": "123456789012",
        "time": "2026-11-22T12:00:00Z",
        "region": "us-east-1",
        "resources": [f"arn:aws:states:us-east-1:123456789012:execution:runs:{name}"],
        "detail": {
            "executionArn": f"arn:aws:states:us-east-1:123456789012:execution:runs:{name}",
            "stateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:runs",
            "name": name,
            "status": status,
            "startDate": 1795348800000,
            "stopDate": 1795348900000,
            "input": json.dumps({name: state[name] for name in ("tenant", "job_id", "run")}),
            "output": None,
            "inputDetails": {"included": True},
            "outputDetails": None,
            "error": None,
            "cause": None,
        }
        | detail,
    }


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [
        ("TIMED_OUT", {}, "TIMED_OUT"),
        ("ABORTED", {"error": "", "cause": ""}, "ABORTED"),
        ("FAILED", {"error": "States.DataLimitExceeded", "cause": "too large"}, "FAILED with States.DataLimitExceeded"),
    ],
)
def test_a_run_that_ends_badly_by_itself_is_merged_by_another(deployment, functions, status, detail, said):
    state = started(functions, deployment)
    assert functions.sweep(status_change(state, status, **detail)) == {"salvaged": 1}
    salvage = json.loads(deployment.executions()[-1].execution_input)
    assert salvage == {**state, "salvage": True}
    assert functions.merge(salvage) == {"state": "FAILED"}
    _, view = answered(functions.inquire(request("GET", f"/jobs/{state['job_id']}")))
    assert view["cause"]["message"] == f"The run ended as {said} before it could record its result."


def test_the_end_of_a_map_child_is_left_to_its_own_catch(deployment, functions):
    state = started(functions, deployment)
    event = status_change(state, "FAILED", input=json.dumps({**state, "shard": {}}))
    assert functions.sweep(event) == {}
    assert len(deployment.executions()) == 1


def test_a_late_status_change_leaves_the_job_as_it_ended(deployment, functions):
    state = run_through(functions, deployment)
    assert functions.sweep(status_change(state, "FAILED")) == {}


@pytest.mark.parametrize("error", [{"Error": "States.Timeout", "Cause": ""}, {"Error": "States.Timeout"}, {}])
def test_a_run_that_was_caught_fails_its_job(deployment, functions, error):
    state = started(functions, deployment)
    assert functions.conclude(state | {"error": error}) == {"state": "FAILED"}


def test_a_shard_that_was_caught_is_recorded(deployment, functions):
    state = started(functions, deployment, options={"chunk_bytes": 5})
    lines = lines_of(deployment, functions.plan(state))
    cause = json.dumps({"errorMessage": "RequestId: 1 Error: Runtime exited", "errorType": "Runtime.ExitError"})
    event = state | {"shard": lines[0], "error": {"Error": "Runtime.ExitError", "Cause": cause}}
    assert functions.conclude(event) == {"outcome": "died"}
    for line in lines[1:]:
        functions.process(state | {"shard": line})
    assert functions.merge(state) == {"state": "PARTIAL"}


def test_input_that_dispatch_did_not_write_is_refused(functions):
    for stage in ("plan", "process", "merge"):
        with pytest.raises(errors.MalformedMessage):
            getattr(functions, stage)({"tenant": "T1"})
    with pytest.raises(errors.MalformedMessage):
        functions.process({"tenant": "T1", "job_id": "0" * 26, "run": 1, "shard": {}})


def test_a_sweep_answers_with_what_it_mended(deployment, functions, monkeypatch):
    submitted(functions, deployment)
    deployment.clock.time = module("runtime").clock.now()
    deployment.clock.advance(hours=2)
    monkeypatch.setattr(module("runtime").clock, "now", deployment.clock.now)
    assert functions.sweep({}) == {"claimed": 1, "started": 1}
    assert functions.sweep({}) == {}


# --- logs and metrics


def logged(text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every line is one JSON document: a log record or metrics in the embedded format."""
    documents = [json.loads(line) for line in text.splitlines()]
    return [each for each in documents if "_aws" not in each], [each for each in documents if "_aws" in each]


def test_every_line_of_a_run_names_its_job_and_none_gives_anything_away(deployment, functions, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sha256 = hashlib.sha256(DATA).hexdigest()
        state = run_through(
            functions, deployment, processor="redact", options={"patterns": {"X": "s3cret"}}, sha256=sha256
        )
        functions.inquire(request("GET", f"/jobs/{state['job_id']}/result"))
        functions.announce(stream_event(deployment))
        functions.sweep(status_change(state, "FAILED", cause=SECRET))
    text = capsys.readouterr().out
    records, _ = logged(text)
    assert len(records) >= 6
    for secret in (SECRET, "s3cret", "one line", "X-Amz-Signature", "X-Amz-Credential", "policy", "patterns", sha256):
        assert secret not in text
    for record in records:
        assert (record["service"], record["tenant"], record["job_id"]) == (NAME, state["tenant"], state["job_id"])
    (worked,) = [record for record in records if record["message"] == "shard left"]
    assert (worked["shard"], worked["attempt"], worked["run"], worked["outcome"]) == (0, 1, 1, "done")


def test_a_sweep_writes_only_the_metrics_that_are_not_zero(deployment, functions, capsys):
    functions.sweep({})
    assert logged(capsys.readouterr().out) == ([], [])
    deployment.store.slots.take(JobRef("T1", "0" * 26), 5, 5)
    functions.sweep({})
    _, (metrics,) = logged(capsys.readouterr().out)
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Backhaul", [["service"]])
    assert [(each["Name"], metrics[each["Name"]]) for each in directive["Metrics"]] == [("Mended", [1.0])]


def test_the_metrics_are_in_the_embedded_format_by_processor(deployment, functions, capsys):
    run_through(functions, deployment)
    _, metrics = logged(capsys.readouterr().out)
    amounts: dict[str, float] = {}
    for document in metrics:
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], document["service"]) == ("Backhaul", NAME)
        assert document["processor"] == "text-stats"
        assert "processor" in directive["Dimensions"][0]
        for metric in directive["Metrics"]:
            amounts[metric["Name"]] = document[metric["Name"]][0]
            assert metric["Unit"] == {"Bytes": "Bytes", "QueueAge": "Seconds"}.get(metric["Name"], "Count")
    assert (amounts["Bytes"], amounts["Records"], amounts["Chunks"], amounts["Retries"]) == (len(DATA), 2, 1, 0)
    assert {"JobsSubmitted", "UploadsDispatched", "QueueAge", "JobsSucceeded"} <= amounts.keys()


def test_one_invocation_leaves_none_of_its_log_keys_to_the_next(deployment, functions, capsys):
    state = started(functions, deployment)
    (line,) = lines_of(deployment, functions.plan(state))
    functions.process(state | {"shard": line})
    other = started(functions, deployment)
    capsys.readouterr()
    with pytest.raises(errors.JobNotFound):
        functions.process(other | {"job_id": "0" * 26, "shard": line})
    functions.plan(other)
    records, _ = logged(capsys.readouterr().out)
    assert {record["job_id"] for record in records} == {other["job_id"]}
