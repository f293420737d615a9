"""The strict provider itself: what the proofs believe of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
import urllib3
from pytest_socket import enable_socket, socket_allow_hosts

from prove.strict import Strict, strict
from prove.strict.answers import content_hash, instance, structured_text, vector
from prove.strict.state import Bucket, ProviderState, Settings, Window

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
    {"type": "object", "properties": {"n": {"type": "number", "minimum": -3, "maximum": 3}}, "required": ["n"]},
    {"type": "object", "properties": {"x": {"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 7}}},
    {"type": "object", "properties": {"k": {"enum": ["red", "green"]}, "c": {"const": 7}}, "required": ["k", "c"]},
    {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "boolean"}, "minItems": 3}}},
    {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "null"}, "maxItems": 1}}},
    {"type": "object", "properties": {"s": {"type": "string", "minLength": 20, "maxLength": 21}}},
    {"type": "object", "properties": {"s": {"type": "string", "maxLength": 3}}},
    {"type": "object", "properties": {"u": {"type": ["string", "null"]}, "v": {"anyOf": [{"type": "integer"}]}}},
    {"type": "object", "properties": {"r": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"type": "boolean"}}},
    {"type": "object", "required": ["free"]},
    {"properties": {"o": {"type": "object", "properties": {"deep": {"type": "integer"}}, "required": ["deep"]}}},
]


@pytest.fixture(autouse=True)
def _sockets_are_closed() -> Iterator[None]:
    """Instead of the fixture of all unit tests: these talk to a server of their own on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    yield
    socket_allow_hosts(None)


@pytest.fixture(scope="module")
def running() -> Iterator[Strict]:
    with strict(latency_ms=1, jitter_ms=1) as provider:
        yield provider


@pytest.fixture
def fake(running: Strict) -> Strict:
    running.reset(requests_per_minute=0, tokens_per_minute=0, burst=0, invalid_share=0, latency_ms=1)
    return running


def post(fake: Strict, text: str, path: str = "/v1/chat/completions", **headers: str) -> tuple[int, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = urllib3.request("POST", fake.url + path, json=body, headers=names, timeout=10, retries=False)
    return answer.status, answer.json()


def content(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("seed", [b"a", b"b", b"c"])
def test_a_structured_answer_satisfies_its_schema(schema, seed):
    jsonschema.validate(instance(schema, seed * 32, schema), schema)


def test_a_share_of_structured_answers_is_wrong_and_always_the_same():
    schema = SCHEMAS[0]

    def is_right(n: int) -> bool:
        text = structured_text({"messages": [{"role": "user", "content": str(n)}]}, schema, 0.3)
        try:
            jsonschema.validate(json.loads(text), schema)
        except (ValueError, jsonschema.ValidationError):
            return False
        return True

    right = [is_right(n) for n in range(1000)]
    assert 250 < right.count(False) < 350
    assert right == [is_right(n) for n in range(1000)]


def test_vectors_belong_to_their_texts():
    assert vector("a", 8) == vector("a", 8) != vector("b", 8)
    assert sum(each * each for each in vector("a", 64)) == pytest.approx(1, abs=1e-3)


def test_a_bucket_gives_no_credit():
    bucket = Bucket(per_minute=60, most=2, now=0)
    bucket.take(2)
    assert bucket.level(0.5) == 0.5
    assert bucket.wait(1, 0.5) == 0.5
    assert bucket.level(1000) == 2


def test_the_worst_second_is_the_fullest_of_all():
    window = Window()
    for at in (0, 0.5, 0.9, 1.0, 1.4, 5):
        window.note(at)
    assert window.worst == 4  # 0.5 to 1.4; what lies a whole second apart is not in one


def test_of_equal_requests_the_hash_is_equal():
    assert content_hash("/v1/embeddings", {"a": 1, "b": 2}) == content_hash("/embeddings", {"b": 2, "a": 1})
    assert content_hash("/v1/embeddings", {"a": 1}) != content_hash("/v1/chat", {"a": 1})


def test_a_setting_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'requests'"):
        Settings().changed({"requests": 5})
    assert ProviderState(Settings()).admit(10**9) is None


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("echo: a: b", "a: b"),
        ("upper: a", "A"),
        ("reverse: abc", "cba"),
        ("count: a b  c", "3"),
        ("long: 2", "word word"),
    ],
)
def test_answers_follow_simple_rules(fake, asked, answered):
    assert content(post(fake, asked)[1]) == answered


def test_the_same_question_has_the_same_answer_and_another_has_another(fake):
    answers = [content(post(fake, text)[1]) for text in ("why?", "why?", "why not?")]
    assert answers[0] == answers[1] != answers[2]
    counts = fake.counts()
    body = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
    assert counts["by_content"][content_hash("/chat/completions", body)] == {"calls": 2, "paid": 2}
    assert counts["contents"] == 2


def test_the_limit_is_kept_to_the_letter(fake):
    fake.control(settings={"requests_per_minute": 1200, "burst": 5})
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: post(fake, f"echo: {n}")[0], range(120)))
    most = 5 + (time.monotonic() - began) * 20 + 1
    counts = fake.counts()
    assert 5 <= statuses.count(200) == counts["paid"] <= most
    assert statuses.count(429) == counts["refused"] == 120 - counts["paid"]
    assert counts["worst_second"]["paid"] <= 26


def test_a_key_is_paid_once_even_while_the_first_call_is_at_work(fake):
    fake.control(settings={"latency_ms": 600})
    with ThreadPoolExecutor(4) as pool:
        statuses = [each[0] for each in pool.map(lambda _: post(fake, "why?", Idempotency_Key="k"), range(4))]
    assert sorted(statuses) == [200, 409, 409, 409]
    assert post(fake, "why?", Idempotency_Key="k")[0] == 200
    assert post(fake, "another", Idempotency_Key="k")[0] == 422
    counts = fake.counts()
    assert (counts["paid"], counts["repeated"], counts["conflicts"], counts["rejected"]) == (1, 1, 3, 1)


def test_a_key_whose_call_was_refused_is_free_again(fake):
    fake.control(settings={"requests_per_minute": 60, "burst": 1})
    assert post(fake, "a")[0] == 200
    assert post(fake, "b", Idempotency_Key="k")[0] == 429
    time.sleep(1.05)
    assert post(fake, "b", Idempotency_Key="k")[0] == 200


def test_an_outage_strikes_its_share_of_calls_and_ends_with_its_time(fake):
    fake.control(outage="unavailable", seconds=60, share=0.5)
    statuses = [post(fake, f"echo: {n}")[0] for n in range(60)]
    assert 15 <= statuses.count(503) <= 45
    assert fake.counts()["failed"] == statuses.count(503)
    fake.control(outage="unavailable", seconds=0.1)
    time.sleep(0.15)
    assert fake.counts()["outage"] is None
    assert post(fake, "echo: x")[0] == 200


@pytest.mark.parametrize("told", [{"outage": "flood"}, {"seconds": 1, "what": 2}, {"settings": {"speed": 1}}, []])
def test_what_control_does_not_know_is_refused(fake, told):
    answer = urllib3.request("POST", f"{fake.url}/control", json=told, retries=False)
    assert answer.status == 400
