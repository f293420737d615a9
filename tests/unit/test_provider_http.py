"""Adapters over HTTP: against the strict provider in a process of its own, and against answers made up byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_socket import enable_socket, socket_allow_hosts

from backhaul.providers import (
    Answer,
    Chat,
    Embed,
    Message,
    ModelRefused,
    PromptTooLong,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    RateLimits,
    Raw,
    SecretUnreadable,
    Usage,
    connection,
    open_provider,
)
from backhaul.providers.openai import is_strict
from prove.strict import Strict, strict
from prove.strict.answers import count_tokens, vector

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _sockets_are_closed() -> Iterator[None]:
    """Instead of the fixture of all unit tests: these talk to servers of their own on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    yield
    socket_allow_hosts(None)


@pytest.fixture(scope="module")
def running() -> Iterator[Strict]:
    with strict() as provider:
        yield provider


@pytest.fixture
def fake(running: Strict) -> Strict:
    running.reset(
        requests_per_minute=0, tokens_per_minute=0, burst=0, secret="", context_tokens=0, retry_after="seconds"
    )
    return running


class Keys:
    """A store of keys that counts how often it is asked."""

    def __init__(self, *values: str) -> None:
        self.values = list(values)
        self.read_anews = 0

    def read(self, reference: str) -> str:
        assert reference == "ssm:key"
        return self.values[0]

    def read_anew(self, reference: str, old: str) -> str:
        assert old == self.values[0]
        self.read_anews += 1
        self.values = self.values[1:] or self.values
        return self.values[0]


def adapter(url: str, keys: Keys | None = None, **settings: Any):
    values: dict[str, Any] = {"name": "small", "kind": "openai", "base_url": url, "model": "m-1", "timeout_seconds": 5}
    values |= {"secret": "ssm:key"} if keys else {}
    return open_provider(Provider(**values | settings), secrets=keys, models=None, is_local=True)  # type: ignore[arg-type]


def ask(text: str, **settings: Any) -> Chat:
    return Chat(messages=(Message("user", text),), **settings)


# The strict provider.


def test_a_chat_is_answered_and_counted(fake):
    answer = adapter(f"{fake.url}/v1").call(ask("upper: hello", system="Be loud."))
    assert answer == Answer(
        content="HELLO", usage=Usage(count_tokens("upper: hello") + count_tokens("Be loud.") + 6, 2)
    )
    counts = fake.counts()
    assert (counts["calls"], counts["paid"], counts["answered"]) == (1, 1, 1)


def test_a_trailing_slash_of_the_address_does_no_harm(fake):
    assert adapter(f"{fake.url}/v1/").call(ask("echo: x")).content == "x"


def test_an_answer_that_is_cut_off_says_so(fake):
    answer = adapter(fake.url).call(ask("long: 100", max_tokens=5))
    assert (answer.finish, answer.usage.output_tokens) == ("length", 5)


def test_a_schema_is_followed(fake):
    answer = adapter(fake.url).call(ask("Where?", json_schema=SCHEMA))
    value = json.loads(answer.content)
    assert isinstance(value["city"], str)
    assert isinstance(value["people"], int)


def test_texts_become_vectors_in_their_order(fake):
    answer = adapter(fake.url).call(Embed(texts=("b", "a", "b"), dimensions=4))
    assert answer.content == [vector(text, 4) for text in ("b", "a", "b")]
    assert answer.usage == Usage(3)


def test_any_json_can_be_posted_and_comes_back(fake):
    for kind in ("openai", "http"):
        answer = adapter(fake.url, kind=kind).call(Raw(path="/translate?to=de", body={"text": "hello", "ä": [1]}))
        assert answer.content["echo"] == {"text": "hello", "ä": [1]}
        assert answer.usage.input_tokens == count_tokens('{"text": "hello", "\\u00e4": [1]}')


def test_http_takes_raw_requests_only(fake):
    with pytest.raises(ProviderRejected, match="Raw requests only"):
        adapter(fake.url, kind="http").call(ask("x"))
    assert fake.counts()["calls"] == 0


def test_a_key_is_sent_in_the_header_that_the_provider_has(fake):
    fake.control(settings={"secret": "k-1"})
    for header in ("Authorization", "api-key", "x-api-key"):
        assert adapter(fake.url, Keys("k-1"), secret_header=header).call(ask("echo: x")).content == "x"
    with pytest.raises(ProviderDenied) as denied:
        adapter(fake.url, Keys("k-SECRET")).call(ask("echo: x"))
    assert "SECRET" not in str(denied.value)
    with pytest.raises(ProviderDenied):
        adapter(fake.url).call(ask("echo: x"))
    assert fake.counts()["denied"] == 2


def test_a_key_that_was_replaced_is_read_anew_and_the_call_made_again(fake):
    fake.control(settings={"secret": "new"})
    keys = Keys("old", "new")
    assert adapter(fake.url, keys).call(ask("echo: x")).content == "x"
    assert (fake.counts()["denied"], fake.counts()["paid"], keys.read_anews) == (1, 1, 1)


def test_a_call_with_a_key_of_its_own_is_paid_once(fake):
    provider = adapter(fake.url, idempotency_header="Idempotency-Key")
    answers = {provider.call(ask("some question"), key="job/1/2").content for _ in range(3)}
    counts = fake.counts()
    assert len(answers) == 1
    assert (counts["calls"], counts["paid"], counts["repeated"]) == (3, 1, 2)
    adapter(fake.url).call(ask("some question"), key="job/1/2")  # it has no header for it
    assert fake.counts()["paid"] == 2


@pytest.mark.parametrize("key", ["", "a\r\nb", "ä", "x" * 256])
def test_a_key_that_no_header_takes_is_refused(fake, key):
    with pytest.raises(ValueError, match="idempotency key"):
        adapter(fake.url, idempotency_header="Idempotency-Key").call(ask("x"), key=key)


@pytest.mark.parametrize("style", ["seconds", "ms", "date", "reset", "none"])
def test_a_limit_is_told_with_the_time_to_wait(fake, style):
    fake.control(settings={"requests_per_minute": 6, "burst": 1, "retry_after": style})
    provider = adapter(fake.url)
    limits = provider.call(ask("echo: x")).limits
    with pytest.raises(ProviderBusy, match="429") as busy:
        provider.call(ask("echo: y"))
    wait = busy.value.retry_after
    if style == "none":
        assert (wait, limits) == (None, None)
    else:
        assert 0 < wait <= 12.1
        assert isinstance(limits, RateLimits)
        assert limits.requests_left == 0


def test_a_limit_of_tokens_is_a_limit(fake):
    fake.control(settings={"tokens_per_minute": 600, "tokens_burst": 80})
    provider = adapter(fake.url)
    provider.call(ask("echo: " + "word " * 20))
    with pytest.raises(ProviderBusy):
        provider.call(ask("echo: " + "word " * 20))
    assert fake.counts()["refused"] == 1


def test_a_request_beyond_the_window_is_too_long(fake):
    fake.control(settings={"context_tokens": 10})
    with pytest.raises(PromptTooLong, match="context_length_exceeded"):
        adapter(fake.url).call(ask("word " * 100))


@pytest.mark.parametrize("text", ["refuse: SECRET", "filter: SECRET"])
def test_a_refusal_is_told_with_what_it_cost(fake, text):
    with pytest.raises(ModelRefused) as refused:
        adapter(fake.url).call(ask(text))
    assert refused.value.input_tokens == count_tokens(text) + 3
    assert "SECRET" not in str(refused.value)


def test_a_request_that_is_not_understood_is_rejected(fake):
    with pytest.raises(ProviderRejected, match="400"):
        adapter(fake.url).call(Raw(path="/chat/completions", body={"SECRET": 1}))


@pytest.mark.parametrize(
    ("outage", "may_be_paid"),
    [("unavailable", False), ("drop", True), ("drop_paid", True), ("malformed", True), ("hang", True)],
)
def test_whatever_is_out_of_order_is_one_kind_of_failure(fake, outage, may_be_paid):
    fake.control(outage=outage, seconds=60)
    with pytest.raises(ProviderDown) as down:
        adapter(fake.url, timeout_seconds=0.5).call(ask("echo: SECRET"))
    assert "SECRET" not in str(down.value)
    assert down.value.may_be_paid is may_be_paid
    assert down.value.__cause__ is None
    fake.control(outage=None)
    assert adapter(fake.url).call(ask("echo: x")).content == "x"


def test_an_outage_may_say_how_long_it_takes(fake):
    fake.control(outage="unavailable", seconds=5, retry_after=3)
    with pytest.raises(ProviderDown) as down:
        adapter(fake.url).call(ask("echo: x"))
    assert down.value.retry_after == 3


def test_a_connection_that_is_refused_is_an_outage_and_passes(fake):
    provider = adapter(fake.url)
    provider.call(ask("echo: x"))
    fake.control(outage="refused", seconds=1)

    def calls_until(end: float) -> bool:
        while time.monotonic() < end:
            with contextlib.suppress(ProviderDown):
                return provider.call(ask("echo: x")).content == "x"
            time.sleep(0.02)
        return False

    def call_often() -> None:
        for _ in range(500):  # it begins in a moment
            provider.call(ask("echo: x"))

    with pytest.raises(ProviderDown, match=r"refused|broke") as down:
        call_often()
    assert down.value.may_be_paid is ("refused" not in str(down.value))
    assert calls_until(time.monotonic() + 10)


def test_a_call_whose_answer_was_lost_is_not_paid_again(fake):
    provider = adapter(fake.url, idempotency_header="Idempotency-Key")
    fake.control(outage="drop_paid", seconds=60)
    with pytest.raises(ProviderDown):
        provider.call(ask("echo: x"), key="k")
    fake.control(outage=None)
    assert provider.call(ask("echo: x"), key="k").content == "x"
    counts = fake.counts()
    assert (counts["paid"], counts["lost"], counts["repeated"]) == (1, 1, 1)


def test_token_counts_that_cannot_be_true_are_estimated(fake):
    fake.control(outage="wrong_usage", seconds=60)
    usage = adapter(fake.url).call(ask("echo: some words to count")).usage
    fake.control(outage=None)
    assert usage.estimated
    assert 5 <= usage.input_tokens <= 15
    assert 3 <= usage.output_tokens <= 6


def test_many_threads_share_an_adapter(fake):
    provider = adapter(fake.url)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: provider.call(ask(f"echo: {n}")).content, range(200)))
    assert answers == [str(n) for n in range(200)]
    assert fake.counts()["paid"] == 200


# Answers byte by byte.

Script = Callable[[socket.socket], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Script], str]]:
    """Return a function that serves one connection by a script, once it has read the request, and returns the URL."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(script: Script) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(5)
        listeners.append(listener)

        def handle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                request = connection.recv(65536)
                while request.startswith(b"POST") and b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                with contextlib.suppress(OSError):  # the client may go away
                    script(connection)

        thread = threading.Thread(target=handle)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


def answers(body: bytes, status: str = "200 OK", *headers: str, size: int | None = None) -> Script:
    head = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body) if size is None else size}",
        "Connection: close",
        *headers,
    ]
    return lambda connection: connection.sendall("\r\n".join([*head, "", ""]).encode() + body)


GOOD = b'{"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}'


def test_the_least_that_an_answer_must_have_is_enough(scripted):
    answer = adapter(scripted(answers(GOOD))).call(ask("well?"))
    assert (answer.content, answer.finish, answer.usage.estimated, answer.limits) == ("yes", "stop", True, None)


def test_a_model_that_thought_until_its_tokens_were_used_up_answers_with_nothing(scripted):
    body = b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}'
    answer = adapter(scripted(answers(body))).call(ask("well?"))
    assert (answer.content, answer.finish) == ("", "length")


def test_limits_are_read_from_the_headers(scripted):
    script = answers(GOOD, "200 OK", "x-ratelimit-remaining-requests: 7", "X-RateLimit-Reset-Tokens: 1s")
    assert adapter(scripted(script)).call(ask("well?")).limits == RateLimits(requests_left=7, tokens_reset=1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SECRET",
        b"<html>SECRET",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "SECRET"}]}',
        b'{"choices": [{"message": {"content": ["SECRET"]}}]}',
        b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "x"}, "finish_reason": {"SECRET": 1}}]}',
    ],
)
def test_an_answer_of_another_form_is_an_outage(scripted, body):
    with pytest.raises(ProviderDown) as down:
        adapter(scripted(answers(body))).call(ask("well?"))
    assert "SECRET" not in str(down.value)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"data": 5}',
        b'{"data": []}',
        b'{"data": [{"index": 0}]}',
        b'{"data": [{"index": 0, "embedding": "AAAA"}]}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 0, "embedding": [null]}]}',
        b'{"data": [{"index": "x", "embedding": [1]}]}',
    ],
)
def test_vectors_of_another_form_are_an_outage(scripted, body):
    with pytest.raises(ProviderDown):
        adapter(scripted(answers(body))).call(Embed(texts=("a",)))


def test_vectors_are_put_in_order(scripted):
    body = b'{"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}], "usage": {"prompt_tokens": 2}}'
    assert adapter(scripted(answers(body))).call(Embed(texts=("a", "b"))).content == [[1], [2]]


def test_too_many_texts_are_refused_before_anybody_is_asked():
    provider = adapter("http://127.0.0.1:9")
    with pytest.raises(ProviderRejected, match="2048"):
        provider.call(Embed(texts=("a",) * (provider.max_texts + 1)))


def chunked(*chunks: bytes, whole: bool = True) -> Script:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return lambda connection: connection.sendall(head + parts + (b"0\r\n\r\n" if whole else b""))


def test_an_answer_may_come_in_chunks(scripted):
    assert adapter(scripted(chunked(GOOD[:10], GOOD[10:]))).call(ask("well?")).content == "yes"


@pytest.mark.parametrize(
    "script",
    [
        answers(GOOD, size=10_000),
        chunked(GOOD, whole=False),
        lambda _: None,
        lambda connection: connection.sendall(b"SECRET nonsense\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ SECRET\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        answers(GOOD, "200 OK", "Content-Encoding: gzip"),
    ],
    ids=["short", "chunks without end", "nothing", "no http", "bad chunk", "bad length", "compressed"],
)
def test_a_broken_answer_is_an_outage(scripted, script):
    with pytest.raises(ProviderDown) as down:
        adapter(scripted(script)).call(ask("well?"))
    assert "SECRET" not in str(down.value)
    assert down.value.__cause__ is None


def test_nobody_there_is_an_outage():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ProviderDown, match="refused"):
        adapter(f"http://127.0.0.1:{port}").call(ask("well?"))


def test_plain_text_where_tls_was_expected_is_an_outage(scripted):
    with pytest.raises(ProviderDown, match=r"secure|broke"):
        adapter(scripted(answers(GOOD)).replace("http:", "https:")).call(ask("well?"))


def test_a_redirect_is_not_followed(scripted):
    script = answers(b"", "307 Temporary Redirect", "Location: http://127.0.0.1:9/SECRET")
    with pytest.raises(ProviderRejected, match="redirect") as rejected:
        adapter(scripted(script)).call(ask("well?"))
    assert "SECRET" not in str(rejected.value)


def test_an_answer_without_end_is_cut_off(scripted, monkeypatch):
    monkeypatch.setattr(connection, "MAX_ANSWER", 1024**2)

    def endless(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            client.sendall(b" " * 65536)

    with pytest.raises(ProviderRejected, match="more than 1 MB"):
        adapter(scripted(endless)).call(ask("well?"))


def test_an_answer_that_drips_ends_with_the_time(scripted):
    def drip(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            client.sendall(b" ")
            time.sleep(0.05)

    began = time.monotonic()
    with pytest.raises(ProviderDown, match="time"):
        adapter(scripted(drip), timeout_seconds=0.5).call(ask("well?"))
    assert time.monotonic() - began < 2


def test_a_caller_may_have_less_time_than_the_provider_is_given(scripted):
    began = time.monotonic()
    with pytest.raises(ProviderDown, match="the time for the call is over"):
        adapter(scripted(lambda _: time.sleep(1)), timeout_seconds=60).call(ask("well?"), timeout=0.3)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_caller_whose_time_is_up_fails_at_once(scripted, timeout):
    with pytest.raises(ProviderDown):
        adapter(scripted(lambda _: time.sleep(0.3))).call(ask("well?"), timeout=timeout)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("https://my.openai.azure.com/openai/v1", "max_completion_tokens"),
        ("https://api.groq.com/openai/v1", "max_tokens"),
        ("https://notapi.openai.com.example/v1", "max_tokens"),
        ("http://127.0.0.1:8000/v1", "max_tokens"),
    ],
)
def test_the_longest_answer_is_asked_for_in_the_hosts_words(url, name):
    assert adapter(url)._chat_body(ask("x", max_tokens=5))[name] == 5


@pytest.mark.parametrize(
    ("schema", "strict_mode"),
    [
        (SCHEMA, True),
        ({"type": "object"}, False),
        (SCHEMA | {"required": ["city"]}, False),
        (SCHEMA | {"additionalProperties": True}, False),
        (SCHEMA | {"properties": {"city": SCHEMA, "people": {"type": "array", "items": {"type": "object"}}}}, False),
        (SCHEMA | {"properties": {"city": SCHEMA, "people": {"anyOf": [SCHEMA, {"type": "null"}]}}}, True),
    ],
)
def test_strict_mode_is_asked_for_where_the_schema_allows_it(schema, strict_mode):
    assert is_strict(schema) is strict_mode
    body = adapter("https://a.example")._chat_body(ask("x", json_schema=schema))
    assert body["response_format"]["json_schema"]["strict"] is strict_mode


def test_the_clock_is_an_argument():
    class Clock:
        def now(self) -> datetime:
            return datetime(2026, 1, 1, tzinfo=UTC)

    provider = Provider(name="a", kind="http", base_url="http://127.0.0.1:9")
    assert open_provider(provider, secrets=Keys("k"), models=None, clock=Clock()).max_texts == 0  # type: ignore[arg-type]


# Keys that no header takes.


@pytest.mark.parametrize(
    "key", ["sk-one\nSECRET", "sk-one\r\nX-Other: SECRET", "sk-\u2028SECRET", "sk-\x00SECRET", " \n"]
)
@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
def test_a_key_that_no_header_takes_is_refused_and_never_shown(fake, key, header):
    made = adapter(f"{fake.url}/v1", Keys(key), secret_header=header)
    with pytest.raises(SecretUnreadable, match="The secret of small is empty, or has characters") as raised:
        made.call(ask("upper: hello"))
    assert "SECRET" not in "".join(traceback.format_exception(raised.value))
    assert fake.counts()["calls"] == 0


def test_a_key_keeps_no_line_break_at_its_end(fake):
    fake.reset(secret="sk-1")
    assert adapter(f"{fake.url}/v1", Keys("sk-1\n")).call(ask("upper: hello")).content == "HELLO"
