"""Requests and answers: which are refused before anybody is asked, and how they are stored."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import msgspec
import pytest

from backhaul import providers
from backhaul.providers import Answer, Chat, Embed, Message, RateLimits, Raw, Usage
from backhaul.providers.usage import read_usage

ASK = (Message("user", "why?"),)


def test_nothing_here_talks_to_aws_but_the_store():
    package = Path(providers.__file__).parent
    imported = {
        name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert "urllib3" in imported
    assert not [name for name in imported if re.match(r"(boto3|botocore|backhaul\.(store|flow|stages))\b", name)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Chat(messages=()), "ends with a message of the user"),
        (lambda: Chat(messages=(*ASK, Message("assistant", "because"))), "ends with a message of the user"),
        (lambda: Message("system", "x"), "system is a field of Chat"),
        (lambda: Message("user", 5), "content is text"),
        (lambda: Chat(messages=ASK, max_tokens=0), "max_tokens"),
        (lambda: Chat(messages=ASK, temperature=2.1), "temperature"),
        (lambda: Chat(messages=ASK, temperature=float("nan")), "temperature"),
        (lambda: Chat(messages=ASK, json_schema={"type": "array"}), "wrap a list"),
        (lambda: Embed(texts="one text"), "not one text"),
        (lambda: Embed(texts=()), "needs a text"),
        (lambda: Embed(texts=("a", "")), "none may be empty"),
        (lambda: Embed(texts=("a",), dimensions=0), "dimensions"),
        (lambda: Raw(body={}, path="translate"), "begins with"),
        (lambda: Raw(body={}, path="//evil.example/x"), "begins with"),
        (lambda: Raw(body={}, path="/a b"), "no spaces"),
        (lambda: Raw(body={}, path="/a\r\nb"), "begins with"),
        (lambda: Raw(body={}, path="/../admin"), "stays below"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_lists_are_as_good_as_tuples():
    assert Chat(messages=list(ASK)).messages == ASK
    assert Embed(texts=["a", "b"]).texts == ("a", "b")


@pytest.mark.parametrize("content", ["text", [[0.5, -1.0]], {"any": ["json", 1, None]}])
def test_an_answer_survives_storage_as_json(content):
    answer = Answer(content=content, usage=Usage(3, 4), finish="length", limits=RateLimits(requests_left=2))
    stored = msgspec.json.encode(msgspec.to_builtins(answer))
    assert msgspec.json.decode(stored, type=Answer) == answer


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 4}, Usage(9, 4)),
        ({"input_tokens": 9, "output_tokens": 4}, Usage(9, 4)),
        ({"inputTokens": 9, "outputTokens": 4}, Usage(9, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 40_000}, Usage(9, 40_000)),  # thinking is output as well
        (None, Usage(6, 2, estimated=True)),
        ("9 and 4", Usage(6, 2, estimated=True)),
        ({}, Usage(6, 2, estimated=True)),
        ({"prompt_tokens": 9}, Usage(9, 2, estimated=True)),
        ({"prompt_tokens": -1, "completion_tokens": 4}, Usage(6, 4, estimated=True)),
        ({"prompt_tokens": 0, "completion_tokens": 4}, Usage(6, 4, estimated=True)),
        ({"prompt_tokens": 10**9, "completion_tokens": 4}, Usage(6, 4, estimated=True)),
        ({"prompt_tokens": 9, "completion_tokens": 0}, Usage(9, 2, estimated=True)),
        ({"prompt_tokens": 9, "completion_tokens": 10**12}, Usage(9, 2, estimated=True)),
        ({"prompt_tokens": True, "completion_tokens": "4"}, Usage(6, 2, estimated=True)),
        ({"prompt_tokens": 9.0, "completion_tokens": 4}, Usage(6, 4, estimated=True)),
    ],
)
def test_token_counts_that_are_missing_or_cannot_be_true_are_estimated(said, usage):
    assert read_usage(said, Chat(messages=ASK), "because of") == usage


def test_vectors_are_no_output():
    request = Embed(texts=("some text",))
    assert read_usage({"prompt_tokens": 2, "total_tokens": 2}, request, [[0.1, 0.2]]) == Usage(2, 0)
    assert read_usage(None, request, [[0.1, 0.2]]) == Usage(2, 0, estimated=True)


def test_an_answer_that_says_nothing_may_have_cost_nothing():
    assert read_usage({"prompt_tokens": 9, "completion_tokens": 0}, Chat(messages=ASK), "") == Usage(9, 0)
