"""Which failures may pass, and how long to wait before the next try."""

import http.client
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import botocore.exceptions as boto
import httpx
import pytest
import urllib3

from backhaul import Permanent, Transient, UnsuitableInput
from backhaul.model import waits
from backhaul.model.errors import BackhaulError, InvalidProcessor
from backhaul.model.transience import is_transient
from backhaul.model.waits import MAX_ASKED, MAX_BACKOFF, delay_before

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
REQUEST = httpx.Request("POST", "https://api.example.com/v1/ask")


def aws(code: str, status: int | None = 400, headers: dict[str, str] | None = None) -> boto.ClientError:
    metadata: dict[str, Any] = {"HTTPHeaders": headers or {}} | ({"HTTPStatusCode": status} if status else {})
    return boto.ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": metadata}, "InvokeModel")


def of_httpx(status: int, headers: dict[str, str] | None = None) -> httpx.HTTPStatusError:
    answer = httpx.Response(status, headers=headers, request=REQUEST)
    return httpx.HTTPStatusError("no", request=REQUEST, response=answer)


def of_urllib(status: int, headers: dict[str, str] | None = None) -> urllib.error.HTTPError:
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return urllib.error.HTTPError("https://api.example.com", status, "no", message, None)


def foreign(module: str, name: str, base: type[Exception] = Exception, **attributes: Any) -> Exception:
    """An exception of a package that is not installed here."""
    error = type(name, (base,), {"__module__": module})("no")
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def of_requests(status: int | None, headers: dict[str, str] | None = None) -> Exception:
    response = None if status is None else SimpleNamespace(status_code=status, headers=httpx.Headers(headers))
    return foreign("requests.exceptions", "HTTPError", OSError, response=response)


def of_sdk(status: int, headers: dict[str, str] | None = None) -> Exception:
    """As the SDKs of model providers have it: a status of its own, and httpx's response."""
    response = httpx.Response(status, headers=headers, request=REQUEST)
    return foreign("anthropic", "APIStatusError", status_code=status, response=response)


def of_aiohttp(status: int, headers: dict[str, str] | None = None) -> Exception:
    return foreign("aiohttp.client_exceptions", "ClientResponseError", status=status, headers=httpx.Headers(headers))


CLIENTS = [of_httpx, of_urllib, of_requests, of_sdk, of_aiohttp]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529, 599])
def test_an_answer_that_says_later_may_pass_whatever_the_client(client, status):
    assert is_transient(client(status))


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [200, 301, 400, 401, 403, 404, 409, 413, 422, 499, 600])
def test_an_answer_that_says_no_will_not_pass_whatever_the_client(client, status):
    assert not is_transient(client(status))


@pytest.mark.parametrize(
    "code",
    ["ThrottlingException", "Throttling", "SlowDown", "TooManyRequestsException", "ModelTimeoutException",
     "ProvisionedThroughputExceededException", "RequestLimitExceeded", "ServiceUnavailableException"],
)  # fmt: skip
@pytest.mark.parametrize("status", [400, None])
def test_what_aws_throttles_may_pass_though_its_status_is_400(code, status):
    assert is_transient(aws(code, status))


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (aws("InternalFailure", 500), True),
        (aws("Anything", 503), True),
        (aws("Anything", 429), True),
        (aws("ValidationException"), False),
        (aws("AccessDeniedException", 403), False),
        (aws("ResourceNotFoundException", 404), False),
        (aws("ConditionalCheckFailedException"), False),
        (boto.EndpointConnectionError(endpoint_url="https://x"), True),
        (boto.ConnectTimeoutError(endpoint_url="https://x"), True),
        (boto.ReadTimeoutError(endpoint_url="https://x"), True),
        (boto.ConnectionClosedError(endpoint_url="https://x"), True),
        (boto.NoCredentialsError(), False),
        (boto.ParamValidationError(report="no"), False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_of_aws_throttling_failures_and_connections_may_pass_and_refusals_will_not(error, passes):
    assert is_transient(error) is passes


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("no"),
        ConnectionResetError("reset"),
        BrokenPipeError("broken"),
        TimeoutError("late"),
        http.client.RemoteDisconnected("gone"),
        httpx.ConnectError("no", request=REQUEST),
        httpx.ReadTimeout("late", request=REQUEST),
        httpx.PoolTimeout("late", request=REQUEST),
        httpx.RemoteProtocolError("gone", request=REQUEST),
        urllib3.exceptions.ProtocolError("gone"),
        foreign("requests.exceptions", "ConnectionError", OSError, response=None),
        foreign("requests.exceptions", "Timeout", OSError, response=None),
        foreign("openai", "APIConnectionError"),
        foreign("anthropic", "APIConnectionError"),
        foreign("aiohttp.client_exceptions", "ClientConnectionError"),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_a_connection_that_fails_may_pass(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(ConnectionRefusedError(111, "refused")),
        urllib.error.URLError(TimeoutError("late")),
        urllib.error.URLError(socket.gaierror(socket.EAI_AGAIN, "no name for now")),
    ],
    ids=lambda error: type(error.reason).__name__,
)
def test_a_connection_that_fails_may_pass_also_where_urllib_wraps_it(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        KeyError("x"),
        ZeroDivisionError(),
        AssertionError(),
        FileNotFoundError("x"),
        PermissionError("x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ssl.SSLCertVerificationError("not theirs"),
        UnsuitableInput("no text", 5),
        httpx.InvalidURL("no"),
        httpx.DecodingError("no", request=REQUEST),
        foreign("mine", "ConnectionError"),
        foreign("mine", "Odd", code="503"),
        foreign("mine", "Odd", status=True),
        foreign("mine", "Odd", response="503"),
        foreign("mine", "Odd", code=None, status=None, response={}),
        SystemExit(503),
        KeyboardInterrupt(),
        GeneratorExit(),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__name__}",
)
def test_what_no_repetition_mends_is_not_repeated(error):
    assert not is_transient(error)


def test_a_breach_of_the_contract_is_not_repeated():
    """Backhaul's own errors have a status for the HTTP API; it says nothing of a record."""
    assert not is_transient(InvalidProcessor("process_chunk must yield bytes, not str."))
    assert not is_transient(BackhaulError("no"))


def test_the_processors_own_word_comes_first():
    class Overloaded(Transient):
        status_code = 400

    class Gone(Permanent, ConnectionError):
        status_code = 503

    assert is_transient(Transient("busy"))
    assert is_transient(Overloaded("busy"))
    assert not is_transient(Permanent("never"))
    assert not is_transient(Gone("never"))


# Delays


@pytest.fixture
def longest(monkeypatch):
    """Let the jitter always be as long as it may."""
    monkeypatch.setattr(waits, "_random", SimpleNamespace(uniform=lambda _, most: most))


def test_waits_double_until_a_minute(longest):
    waits = [delay_before(tries, ValueError(), NOW) for tries in range(1, 11)]
    assert waits == [1, 2, 4, 8, 16, 32, MAX_BACKOFF, MAX_BACKOFF, MAX_BACKOFF, MAX_BACKOFF]


def test_jitter_is_full():
    waits = [delay_before(5, ValueError(), NOW) for _ in range(200)]
    assert all(0 <= wait <= 16 for wait in waits)
    assert min(waits) < 4 < 12 < max(waits)
    assert len(set(waits)) > 150


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("30", 30),
        ("0", 0),
        ("1.5", 1.5),
        (format_datetime(NOW + timedelta(seconds=45), usegmt=True), 45),
        (format_datetime(NOW - timedelta(seconds=45), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=3), usegmt=True), MAX_ASKED),
        ("86400", MAX_ASKED),
        ("inf", MAX_ASKED),
        ("-5", 0),
        ("nan", 0),
        ("soon", 0),
        ("", 0),
        ("Sun, 99 Nov 2026 12:00:00 GMT", 0),
    ],
)
def test_what_the_provider_asks_for_is_waited_within_reason(monkeypatch, client, said, seconds):
    monkeypatch.setattr(waits, "_random", SimpleNamespace(uniform=lambda *_: 0.0))
    assert delay_before(1, client(429, {"Retry-After": said}), NOW) == seconds


def test_aws_may_ask_too(monkeypatch):
    monkeypatch.setattr(waits, "_random", SimpleNamespace(uniform=lambda *_: 0.0))
    assert delay_before(1, aws("SlowDown", 503, {"retry-after": "7"}), NOW) == 7


@pytest.mark.parametrize(("asked", "seconds"), [(None, 0), (12, 12), (0.25, 0.25), (10**9, MAX_ASKED), (-1, 0)])
def test_a_processor_may_say_how_long_to_wait(monkeypatch, asked, seconds):
    monkeypatch.setattr(waits, "_random", SimpleNamespace(uniform=lambda *_: 0.0))
    assert delay_before(1, Transient("busy", retry_after=asked), NOW) == seconds


def test_the_longer_of_both_waits_counts(longest):
    assert delay_before(5, Transient("busy", retry_after=3), NOW) == 16
    assert delay_before(1, Transient("busy", retry_after=3), NOW) == 3


@pytest.mark.parametrize("headers", [None, "x", 5, [("retry-after", "5")]])
def test_headers_of_an_unknown_form_ask_for_nothing(longest, headers):
    assert delay_before(1, foreign("mine", "Odd", headers=headers), NOW) == 1
