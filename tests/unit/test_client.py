"""The client against a real server on loopback."""

import hashlib
import hmac
import io
import os
import re
import traceback
from functools import partial
from heapq import heappop, heappush
from urllib.parse import parse_qsl, quote
from uuid import UUID

import pytest
from botocore.credentials import Credentials
from botocore.exceptions import UnauthorizedSSOTokenError

from backhaul.client.client import Backhaul
from backhaul.client.signing import SigV4
from backhaul.model.api import Download
from backhaul.model.errors import BackhaulError, DeploymentBusy, DeploymentUnreachable, InvalidRequest, RequestRefused
from backhaul.model.job import JobState
from backhaul.model.policy import Policy

JOB = "01kb3x5s0qf8m2v9d7c6t4h1zn"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)


AUTH = SigV4(Credentials("AKIAEXAMPLE", SECRET, "the-token"), "eu-central-1")


@pytest.fixture
def client(server):
    return Backhaul(server.url, AUTH)


def signature_of(request):
    """Signature Version 4, computed from what arrived: docs.aws.amazon.com, "Create a signed AWS API request"."""
    found = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=(\S+), SignedHeaders=(\S+), Signature=(\w+)", request.headers["authorization"]
    )
    scope, names, signature = found.groups()
    key_id, day, region, service, _ = scope.split("/")
    query = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(request.query))
    canonical = "\n".join(
        [
            request.method,
            quote(request.path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{request.headers[name].strip()}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    text = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            request.headers["x-amz-date"],
            scope.partition("/")[2],
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    key = f"AWS4{SECRET}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    return (key_id, region, service, set(names.split(";"))), signature == expected


def test_every_request_is_signed_for_the_api_in_its_region(takes_uploads, client, view, answer, tmp_path):
    server = takes_uploads
    server.on("GET", "/jobs", answer.of({"jobs": [], "next": None}))
    server.on("GET", f"/jobs/{JOB}", answer.of(view()))
    server.on("GET", "/jobs/a%2Fb%20c", answer.of(view()))
    (tmp_path / "größe 1.txt").write_bytes(b"hello")
    client.job(JOB)
    client.job("a/b c")
    client.jobs(state="RUNNING", after="a+b&=/é", limit=5)
    client.submit(tmp_path / "größe 1.txt", "text-stats", {"x": "é"})
    asked = [each for each in server.requests if each.path != "/bucket"]
    assert len(asked) == 4
    for request in asked:
        (key_id, region, service, names), right = signature_of(request)
        assert right, request.target
        assert (key_id, region, service) == ("AKIAEXAMPLE", "eu-central-1", "execute-api")
        assert {"host", "x-amz-date", "x-amz-security-token"} <= names
        assert request.headers["x-amz-security-token"] == "the-token"


def test_an_upload_and_a_download_carry_no_credentials(takes_uploads, client, answer, tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    client.submit(tmp_path / "a", "text-stats")
    takes_uploads.on("GET", "/object", answer(200, b"result"))
    client.fetch(Download(f"{takes_uploads.url}/object", 6, 60, "a"), io.BytesIO())
    for request in takes_uploads.asked("POST", "/bucket") + takes_uploads.asked("GET", "/object"):
        assert "authorization" not in request.headers
        assert "x-amz-security-token" not in request.headers


def test_a_submission_says_what_the_file_is(takes_uploads, client, tmp_path):
    (tmp_path / "größe.txt").write_bytes(b"hello")
    job = client.submit(tmp_path / "größe.txt", "text-stats", {"top": "5"})
    assert (job.job_id, job.state) == (JOB, JobState.AWAITING_UPLOAD)
    (request,) = takes_uploads.asked("POST", "/jobs")
    assert request.json() == {
        "processor": "text-stats",
        "options": {"top": "5"},
        "file_name": "größe.txt",
        "size": 5,
        "sha256": hashlib.sha256(b"hello").hexdigest(),
    }


@pytest.mark.parametrize(
    ("policy", "sent"),
    [
        (None, {}),
        ({}, {}),
        (Policy(), {}),
        (Policy(tolerate="5%", max_tries=1), {"policy": {"tolerate": "5%", "max_tries": 1}}),
        ({"priority": 9}, {"policy": {"priority": 9}}),
    ],
)
def test_of_a_policy_only_what_was_decided_is_sent(takes_uploads, client, tmp_path, policy, sent):
    (tmp_path / "a").write_bytes(b"hello")
    client.submit(tmp_path / "a", "text-stats", policy=policy)
    (request,) = takes_uploads.asked("POST", "/jobs")
    assert {name: value for name, value in request.json().items() if name == "policy"} == sent


def test_a_file_name_that_is_no_text_is_sent_with_replacements(takes_uploads, client, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.txt")
    path.write_bytes(b"hello")
    client.submit(path, "text-stats")
    (request,) = takes_uploads.asked("POST", "/jobs")
    assert request.json()["file_name"] == "caf\N{REPLACEMENT CHARACTER}.txt"


def test_the_checksum_tells_how_far_it_is(takes_uploads, client, tmp_path):
    (tmp_path / "a").write_bytes(bytes(3 * 1024**2))
    hashed = []
    client.submit(tmp_path / "a", "text-stats", hashing=hashed.append)
    assert hashed == [1024**2, 2 * 1024**2, 3 * 1024**2]


def test_the_form_is_sent_whole_and_the_file_last(takes_uploads, client, tmp_path):
    data = bytes(range(256)) * 2000
    (tmp_path / "a").write_bytes(data)
    moved = []
    client.submit(tmp_path / "a", "text-stats", progress=moved.append)
    (request,) = takes_uploads.asked("POST", "/bucket")
    names = re.findall(rb' name="([^"]+)"', request.body.replace(data, b""))
    assert names == [b"key", b"policy", b"x-amz-date", b"file"]
    assert request.headers["content-length"] == str(len(request.body))
    assert data in request.body
    assert moved == sorted(moved)
    assert moved[-1] == len(data)
    assert len(set(moved)) > 3


@pytest.mark.parametrize("name", ["missing", "."])
def test_what_is_no_file_is_refused_before_any_request(server, client, tmp_path, name):
    with pytest.raises(InvalidRequest, match="is not a file"):
        client.submit(tmp_path / name, "text-stats")
    assert server.requests == []


def test_an_empty_file_is_refused_before_any_request(server, client, tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(InvalidRequest, match="is empty"):
        client.submit(tmp_path / "empty", "text-stats")
    assert server.requests == []


def test_a_file_that_cannot_be_read_is_refused_before_any_request(server, client, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"hello")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        client.submit(tmp_path / "a", "text-stats")
    assert server.requests == []


def refusal(code, message="Do this instead."):
    return {"error": {"code": code, "message": message}}


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid_option"), (404, "job_not_found"), (409, "result_not_ready")]
)
def test_a_refusal_comes_with_its_code_and_sentence(server, client, answer, status, code):
    server.on("GET", f"/jobs/{JOB}", answer.of(refusal(code), status))
    with pytest.raises(RequestRefused, match=r"^Do this instead\.$") as raised:
        client.job(JOB)
    assert (raised.value.code, raised.value.status) == (code, status)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body",
    [b'{"message":"Forbidden"}', b"<Error><Code>AccessDenied</Code></Error>", b"", b"\xff", b"[]", b'{"error": 1}'],
)
def test_a_refusal_by_somebody_else_is_told_as_it_is(server, client, answer, body):
    server.on("GET", f"/jobs/{JOB}", answer(403, body))
    with pytest.raises(RequestRefused, match=r"^403 Forbidden: ") as raised:
        client.job(JOB)
    assert (raised.value.code, raised.value.status) == ("refused", 403)


def test_a_failure_inside_is_the_deployments_and_no_refusal(server, client, answer):
    server.on("GET", f"/jobs/{JOB}", answer.of(refusal("internal", "It has been logged."), 500))
    with pytest.raises(DeploymentUnreachable, match="does not work: It has been logged"):
        client.job(JOB)


@pytest.mark.parametrize("body", [b"hello", b"{}", b"", b'{"job_id": 5}', b"<html>"])
def test_an_answer_of_something_else_is_said_to_be_that(server, client, answer, body):
    server.on("GET", f"/jobs/{JOB}", answer(200, body))
    with pytest.raises(DeploymentUnreachable, match="does not answer as Backhaul does"):
        client.job(JOB)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_read_is_tried_again_until_it_succeeds(server, client, view, answer, status):
    server.on("GET", f"/jobs/{JOB}", answer(status), answer(status), answer.of(view()))
    assert client.job(JOB).job_id == JOB
    assert len(server.requests) == 3


def test_a_read_that_never_succeeds_is_given_up(server, client, answer):
    server.on("GET", f"/jobs/{JOB}", answer(503))
    with pytest.raises(DeploymentUnreachable):
        client.job(JOB)
    assert len(server.requests) == 5


FAILURES = {
    "429": (429, {}, 0),
    "429 with Retry-After": (429, {"Retry-After": "2"}, 0),
    "429 with a date": (429, {"Retry-After": "Sun, 22 Nov 2026 12:00:00 GMT"}, 0),
    "429 with nonsense": (429, {"Retry-After": "soon"}, 0),
    "500": (500, {}, 0),
    "503": (503, {"Retry-After": "1"}, 0),
    "a lost connection": (200, {}, None),
}


@pytest.fixture(params=FAILURES)
def failure(request, answer):
    status, headers, cut = FAILURES[request.param]
    return answer(status, b'{"message": "Too Many Requests"}', headers, cut)


def test_a_submission_is_repeated_with_the_same_key_until_it_succeeds(
    takes_uploads, client, answer, failure, tmp_path, caplog
):
    (tmp_path / "a").write_bytes(b"hello")
    taken = takes_uploads.routes["POST", "/jobs"]
    turns = [failure, failure]
    takes_uploads.routes["POST", "/jobs"] = lambda request: turns.pop() if turns else taken(request)
    assert client.submit(tmp_path / "a", "text-stats").job_id == JOB
    asked = takes_uploads.asked("POST", "/jobs")
    assert len(asked) == 3
    assert len({(each.headers["idempotency-key"], each.body) for each in asked}) == 1
    assert len(takes_uploads.asked("POST", "/bucket")) == 1


def test_each_submission_has_a_key_of_its_own(takes_uploads, client, tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    for _ in range(2):
        client.submit(tmp_path / "a", "text-stats")
    keys = [UUID(each.headers["idempotency-key"]) for each in takes_uploads.asked("POST", "/jobs")]
    assert len(set(keys)) == 2
    assert {key.version for key in keys} == {7}


def test_a_submission_that_never_succeeds_is_given_up(server, client, answer, tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    server.on("POST", "/jobs", answer(429, headers={"Retry-After": "7"}))
    with pytest.raises(DeploymentBusy, match="takes no more requests for now") as raised:
        client.submit(tmp_path / "a", "text-stats")
    assert len(server.requests) == 5
    assert raised.value.retry_after == 7


def test_a_deployment_that_is_not_there_is_unreachable():
    client = Backhaul("http://127.0.0.1:1", SigV4(Credentials("a", "b"), "eu-central-1"))
    with pytest.raises(DeploymentUnreachable, match=r"127\.0\.0\.1:1 does not answer.*Is the deployment up"):
        client.job(JOB)


def test_credentials_that_ran_out_say_what_to_do(server):
    class Expired(Credentials):
        def get_frozen_credentials(self):
            raise UnauthorizedSSOTokenError

    with pytest.raises(DeploymentUnreachable, match="Log in again"):
        Backhaul(server.url, SigV4(Expired("a", "b"), "eu-central-1")).job(JOB)


@pytest.mark.parametrize("token", ["one\nHIDDEN", "one\u2028HIDDEN"])
def test_a_session_token_that_no_header_takes_is_refused_and_never_shown(server, token):
    with pytest.raises(DeploymentUnreachable, match="the session token has a line break") as raised:
        Backhaul(server.url, SigV4(Credentials("a", "b", token), "eu-central-1")).job(JOB)
    assert "HIDDEN" not in "".join(traceback.format_exception(raised.value))
    assert server.requests == []


@pytest.mark.parametrize("status", [403, 400])
def test_an_upload_that_s3_refuses_is_refused(takes_uploads, client, answer, tmp_path, status):
    (tmp_path / "a").write_bytes(b"hello")
    takes_uploads.on("POST", "/bucket", answer(status, b"<Error><Code>EntityTooLarge</Code></Error>"))
    with pytest.raises(RequestRefused, match="EntityTooLarge"):
        client.submit(tmp_path / "a", "text-stats")


def test_what_s3_says_of_a_refusal_is_told_without_its_markup(takes_uploads, client, answer, tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Policy &amp; expired.</Message></Error>"
    takes_uploads.on("POST", "/bucket", answer(403, body))
    with pytest.raises(RequestRefused, match=r"^403 Forbidden: Policy & expired\.$"):
        client.submit(tmp_path / "a", "text-stats")


def test_an_upload_that_s3_sends_elsewhere_did_not_happen(takes_uploads, client, answer, tmp_path):
    (tmp_path / "a").write_bytes(b"hello")
    takes_uploads.on(
        "POST", "/bucket", answer(307, b"<Code>TemporaryRedirect</Code>", {"Location": "http://127.0.0.1:1"})
    )
    with pytest.raises(RequestRefused, match="307"):
        client.submit(tmp_path / "a", "text-stats")


def test_a_download_is_written_as_it_comes(server, client, answer):
    data = bytes(range(256)) * 10_000
    server.on("GET", "/object", answer(200, data))
    moved, file = [], io.BytesIO()
    client.fetch(Download(f"{server.url}/object", len(data), 60, "a"), file, progress=moved.append)
    assert file.getvalue() == data
    assert moved == sorted(moved)
    assert moved[-1] == len(data)


def test_a_download_that_breaks_off_says_so(server, client, answer):
    server.on("GET", "/object", answer(200, b"x" * 1000, cut=1))
    with pytest.raises(DeploymentUnreachable, match="broke off"):
        client.fetch(Download(f"{server.url}/object", 1000, 60, "a"), io.BytesIO())


@pytest.mark.parametrize("status", [307, 403, 404])
def test_a_download_that_is_none_writes_nothing(server, client, answer, status):
    server.on("GET", "/object", answer(status, b"<Error/>"))
    file = io.BytesIO()
    with pytest.raises(RequestRefused):
        client.fetch(Download(f"{server.url}/object", 5, 60, "a"), file)
    assert file.getvalue() == b""


def test_following_ends_with_the_job_and_waits_ever_longer_until_three_seconds(server, client, view, answer):
    server.on("GET", f"/jobs/{JOB}", *[answer.of(view())] * 15, answer.of(view("PARTIAL")))
    pauses = []
    states = [job.state for job in client.follow(JOB, sleep=pauses.append)]
    assert states == [JobState.RUNNING] * 15 + [JobState.PARTIAL]
    usual = [min(0.3 * 1.3**number, 3.0) for number in range(15)]
    assert all(0.8 * each <= pause <= 1.2 * each for pause, each in zip(pauses, usual, strict=True))


class Clock:
    """Time that passes only while one sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_following_outlasts_a_deployment_that_is_silent_for_a_while(server, client, view, answer):
    clock, failures = Clock(), []
    silence = [answer(500)] * 6
    server.on("GET", f"/jobs/{JOB}", *[answer.of(view()), *silence] * 2, answer.of(view("SUCCEEDED")))
    following = client.follow(JOB, patience=60, unanswered=failures.append, clock=clock, sleep=clock.sleep)
    assert [job.state for job in following] == [JobState.RUNNING] * 2 + [JobState.SUCCEEDED]
    assert len(failures) == 12
    assert clock.now > 60  # longer in all than it would wait at once


def test_following_gives_up_in_the_end_and_says_how_to_resume(server, client, view, answer):
    clock = Clock()
    server.on("GET", f"/jobs/{JOB}", answer.of(view()), answer(500))
    with pytest.raises(DeploymentUnreachable, match=f"The job goes on; .*: backhaul watch {JOB}$"):
        list(client.follow(JOB, patience=60, clock=clock, sleep=clock.sleep))
    assert 60 <= clock.now < 64


@pytest.mark.parametrize("answered", [None, 404, 200])
def test_what_never_answered_as_a_deployment_is_not_waited_for(server, answer, answered):
    server.on("GET", f"/jobs/{JOB}", answer(answered or 200, b"hello"))
    url = server.url if answered else "http://127.0.0.1:1"
    clock = Clock()
    with pytest.raises(BackhaulError):
        list(Backhaul(url, AUTH).follow(JOB, clock=clock, sleep=clock.sleep))
    assert clock.now == 0


def test_following_goes_on_through_every_failure_that_may_pass(server, client, view, answer, failure):
    clock, told = Clock(), []
    server.on("GET", f"/jobs/{JOB}", answer.of(view()), failure, failure, answer.of(view("SUCCEEDED")))
    following = client.follow(JOB, unanswered=told.append, clock=clock, sleep=clock.sleep)
    assert [job.state for job in following] == [JobState.RUNNING, JobState.SUCCEEDED]
    assert len(told) == 2
    assert len(server.requests) == 4  # the pauses are the follower's own: nothing repeats a poll meanwhile


@pytest.mark.parametrize("status", [429, 500, 503])
def test_following_begins_although_the_deployment_is_busy(server, client, view, answer, status):
    clock = Clock()
    server.on("GET", f"/jobs/{JOB}", answer(status), answer(status), answer.of(view("SUCCEEDED")))
    assert [job.state for job in client.follow(JOB, clock=clock, sleep=clock.sleep)] == [JobState.SUCCEEDED]


def test_following_waits_as_long_as_it_is_asked_to_but_not_beyond_its_own_time_limit(server, client, view, answer):
    pauses, clock = [], Clock()

    def sleep(seconds):
        pauses.append(seconds)
        clock.sleep(seconds)

    busy, very = (answer(429, headers={"Retry-After": seconds}) for seconds in ("20", "3600"))
    server.on("GET", f"/jobs/{JOB}", answer.of(view()), busy, answer.of(view()), very)
    with pytest.raises(DeploymentUnreachable, match="The job goes on"):
        list(client.follow(JOB, patience=60, clock=clock, sleep=sleep))
    assert pauses[1] == 20
    assert pauses[3:] == [pytest.approx(60, abs=1)]


def test_a_client_that_follows_many_jobs_asks_little_more_often_than_for_a_few(server, client, view, answer):
    server.on("GET", f"/jobs/{JOB}", answer.of(view()))
    seconds, rates = 60, {}
    for jobs in (1, 6, 60):
        clock = Clock()
        pauses = [0.0] * jobs
        followed = [
            client.follow(JOB, clock=clock, sleep=partial(pauses.__setitem__, number)) for number in range(jobs)
        ]
        for each in followed:
            next(each)
        due = [(0.0, number) for number in range(jobs)]
        polls = 0
        while (now := heappop(due))[0] < seconds:
            next(followed[now[1]])
            polls += 1
            heappush(due, (now[0] + pauses[now[1]], now[1]))
        rates[jobs] = polls / seconds
        for each in followed:
            each.close()
    assert rates[1] < 0.6
    assert rates[6] < 3
    assert rates[60] < 3 + 60 / seconds  # the first poll of each is at once


def test_followers_that_begin_at_once_do_not_ask_in_step(server, client, view, answer):
    server.on("GET", f"/jobs/{JOB}", answer.of(view()))
    pauses = []
    for _ in range(5):
        following = client.follow(JOB, sleep=pauses.append)
        next(following)
        next(following)
        following.close()
    assert len(set(pauses)) == 5
    assert all(0.24 <= pause <= 0.36 for pause in pauses)


def test_the_processors_come_with_their_options(server, client, answer):
    option = {
        "name": "top",
        "type": "integer",
        "required": False,
        "default": 20,
        "description": "How many.",
        "limits": "",
    }
    server.on("GET", "/processors", answer.of({"processors": [{"name": "p", "summary": "S.", "options": [option]}]}))
    (found,) = client.processors()
    assert (found.name, found.options[0].name, found.options[0].default) == ("p", "top", 20)


def test_results_and_receipts_are_asked_for_by_their_job(server, client, answer):
    download = {"url": "u", "size": 5, "expires_in_seconds": 60, "file_name": "f"}
    server.on("GET", f"/jobs/{JOB}/result", answer.of(download))
    server.on("GET", f"/jobs/{JOB}/receipt", answer.of(download | {"size": 6}))
    assert (client.result(JOB).size, client.receipt(JOB).size) == (5, 6)


def test_an_earlier_run_is_asked_for_by_its_number(server, client, answer):
    download = {"url": "u", "size": 5, "expires_in_seconds": 60, "file_name": "f"}
    for what in ("result", "receipt"):
        server.on("GET", f"/jobs/{JOB}/{what}", answer.of(download))
    client.result(JOB, run=1)
    client.receipt(JOB, 2)
    assert [request.query for request in server.requests] == ["run=1", "run=2"]


@pytest.mark.parametrize(
    ("reason", "sent"), [(None, {}), ("wrong file", {"reason": "wrong file"}), ("", {"reason": ""})]
)
def test_a_job_is_cancelled_with_a_reason_if_there_is_one(server, client, view, answer, reason, sent):
    cause = {"code": "cancelled", "message": "The job was cancelled.", "position": None, "detail": None}
    server.on("POST", f"/jobs/{JOB}/cancel", answer.of(view(stopping=cause), 202))
    job = client.cancel(JOB, reason)
    assert (job.state, job.stopping.code) == (JobState.RUNNING, "cancelled")
    (request,) = server.requests
    assert request.json() == sent
    assert signature_of(request)[1]


@pytest.mark.parametrize("only_failed", [False, True])
def test_a_redrive_tells_whether_a_run_was_started(server, client, view, answer, only_failed):
    made = {"job": view("QUEUED", run=2), "started": True, "chunks": 3}
    server.on("POST", f"/jobs/{JOB}/redrive", answer.of(made, 202))
    done = client.redrive(JOB, only_failed=only_failed)
    assert (done.job.run, done.started, done.chunks) == (2, True, 3)
    assert server.requests[0].json() == {"only_failed": only_failed}


@pytest.mark.parametrize("call", ["cancel", "redrive"])
@pytest.mark.parametrize(("status", "cut"), [(500, 0), (503, 0), (200, None)])
def test_a_command_that_may_have_been_carried_out_is_never_repeated(server, client, answer, call, status, cut):
    server.on("POST", f"/jobs/{JOB}/{call}", answer(status, cut=cut))
    with pytest.raises(DeploymentUnreachable):
        getattr(client, call)(JOB)
    assert len(server.requests) == 1


def test_a_command_that_the_throttle_turned_away_is_repeated(server, client, view, answer):
    server.on("POST", f"/jobs/{JOB}/cancel", answer(429), answer(429), answer.of(view("CANCELLED"), 202))
    assert client.cancel(JOB).state is JobState.CANCELLED
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        ("cancel", "job_has_ended", 409),
        ("redrive", "job_not_ended", 409),
        ("redrive", "not_redrivable", 409),
        ("redrive", "job_not_found", 404),
    ],
)
def test_a_command_that_is_refused_says_why(server, client, answer, call, code, status):
    server.on("POST", f"/jobs/{JOB}/{call}", answer.of(refusal(code), status))
    with pytest.raises(RequestRefused, match="Do this instead") as raised:
        getattr(client, call)(JOB)
    assert (raised.value.code, raised.value.status) == (code, status)
