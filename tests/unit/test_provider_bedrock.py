"""Bedrock: requests as botocore's own model checks them, answers in the forms that AWS documents."""

from __future__ import annotations

import io
import json
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, NoRegionError, ReadTimeoutError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from backhaul.model.clock import SystemClock
from backhaul.model.errors import Permanent, Transient
from backhaul.model.settings import Settings
from backhaul.providers import (
    Answer,
    Chat,
    Embed,
    Message,
    ModelRefused,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    Raw,
    Usage,
    open_provider,
)
from backhaul.store import Store
from backhaul.store.models import ModelStore

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT = Chat(messages=(Message("user", "Where is the SECRET tower?"),))


class Bedrock:
    """A stubbed client and the adapter before it."""

    def __init__(self, model: str = MODEL) -> None:
        client = boto3.client(
            "bedrock-runtime", region_name="eu-central-1", aws_access_key_id="a", aws_secret_access_key="b",
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
        )  # fmt: skip
        self.stub = Stubber(client)
        self.stub.activate()
        provider = Provider(name="claude", kind="bedrock", model=model, region="eu-central-1")
        self.client = client
        self.asked: list[tuple[str, float]] = []

        def models(region: str, seconds: float) -> ModelStore:
            self.asked.append((region, seconds))
            return ModelStore(client, SystemClock())

        self.adapter = open_provider(provider, secrets=None, models=models)  # type: ignore[arg-type]

    def converses(self, answer: dict[str, Any], request: dict[str, Any] | None = None) -> None:
        self.stub.add_response("converse", {"metrics": {"latencyMs": 5}} | answer, request)

    def invokes(self, answer: Any, body: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> None:
        text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        response = {
            "body": StreamingBody(io.BytesIO(text), len(text)),
            "contentType": "application/json",
            "ResponseMetadata": {"HTTPHeaders": headers or {}, "HTTPStatusCode": 200},
        }
        expected = {
            "modelId": ANY,
            "body": json.dumps(body, separators=(",", ":")).encode() if body else ANY,
            "contentType": "application/json",
            "accept": "application/json",
        }
        self.stub.add_response("invoke_model", response, expected)


def said(*blocks: dict[str, Any], stop: str = "end_turn", usage: tuple[int, int] = (12, 7)) -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(blocks)}},
        "stopReason": stop,
        "usage": {"inputTokens": usage[0], "outputTokens": usage[1], "totalTokens": sum(usage)},
    }


def test_the_client_is_made_for_the_providers_region_and_time():
    assert Bedrock().asked == [("eu-central-1", 60.0)]


def test_a_chat_is_sent_in_converses_form():
    bedrock = Bedrock()
    request = Chat(
        messages=(Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Where?")),
        system="Be brief.",
        max_tokens=50,
        temperature=0.5,
    )
    bedrock.converses(
        said({"text": "In "}, {"text": "Paris."}),
        {
            "modelId": MODEL,
            "messages": [
                {"role": "user", "content": [{"text": "Hi."}]},
                {"role": "assistant", "content": [{"text": "Hello."}]},
                {"role": "user", "content": [{"text": "Where?"}]},
            ],
            "system": [{"text": "Be brief."}],
            "inferenceConfig": {"maxTokens": 50, "temperature": 0.5},
        },
    )
    assert bedrock.adapter.call(request, key="k") == Answer(content="In Paris.", usage=Usage(12, 7))


def test_what_is_left_out_is_not_sent():
    bedrock = Bedrock()
    bedrock.converses(
        said({"text": "x"}),
        {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": CHAT.messages[0].content}]}]},
    )
    bedrock.adapter.call(CHAT)


def test_a_schema_becomes_a_tool_that_must_be_used_and_its_input_the_answer():
    bedrock = Bedrock()
    tool = {"toolSpec": {"name": "answer", "description": "Gives the answer.", "inputSchema": {"json": SCHEMA}}}
    bedrock.converses(
        said(
            {"text": "I use it."},
            {"toolUse": {"toolUseId": "t1", "name": "answer", "input": {"city": "Köln"}}},
            stop="tool_use",
        ),
        {"modelId": MODEL, "messages": ANY, "toolConfig": {"tools": [tool], "toolChoice": {"any": {}}}},
    )
    answer = bedrock.adapter.call(Chat(messages=CHAT.messages, json_schema=SCHEMA))
    assert json.loads(answer.content) == {"city": "Köln"}
    assert answer.finish == "stop"


def test_thoughts_are_no_part_of_the_answer():
    bedrock = Bedrock()
    bedrock.converses(
        said({"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}}, {"text": "Yes."})
    )
    assert bedrock.adapter.call(CHAT).content == "Yes."


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_why_it_ended_is_told_in_one_language(stop, finish):
    bedrock = Bedrock()
    bedrock.converses(said({"text": "x"}, stop=stop))
    assert bedrock.adapter.call(CHAT).finish == finish


def test_an_answer_that_was_cut_off_before_its_first_word_is_empty():
    bedrock = Bedrock()
    bedrock.converses(said(stop="max_tokens"))
    assert bedrock.adapter.call(CHAT).content == ""


@pytest.mark.parametrize("stop", ["content_filtered", "guardrail_intervened"])
def test_a_refusal_is_told_with_what_it_cost(stop):
    bedrock = Bedrock()
    bedrock.converses(said({"text": "Sorry, SECRET."}, stop=stop))
    with pytest.raises(ModelRefused) as refused:
        bedrock.adapter.call(CHAT)
    assert (refused.value.input_tokens, refused.value.output_tokens) == (12, 7)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("stop", ["end_turn", "malformed_model_output"])
def test_an_answer_without_a_text_is_none(stop):
    bedrock = Bedrock()
    bedrock.converses(said(stop=stop))
    with pytest.raises(ProviderDown, match="without a text"):
        bedrock.adapter.call(CHAT)


@pytest.mark.parametrize("answer", [{}, {"output": {}}, {"output": {"message": {"content": None}}}, {"output": 5}])
def test_an_answer_of_another_form_is_none(answer):
    class Odd:
        def converse(self, provider: str, request: object) -> Any:
            return answer

    adapter = open_provider(
        Provider(name="claude", kind="bedrock", model=MODEL),
        secrets=None,
        models=lambda *_: Odd(),  # type: ignore[arg-type]
    )
    with pytest.raises(ProviderDown):
        adapter.call(CHAT)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 429, ProviderBusy),
        ("ServiceUnavailableException", 503, ProviderDown),
        ("ModelTimeoutException", 408, ProviderDown),
        ("AccessDeniedException", 403, ProviderDenied),
        ("ValidationException", 400, ProviderRejected),
        ("ResourceNotFoundException", 404, ProviderDenied),
    ],
)
def test_an_error_of_aws_is_one_of_ours_and_asked_once(code, status, kind):
    bedrock = Bedrock()
    bedrock.stub.add_client_error(
        "converse", code, "SECRET", status, response_meta={"HTTPHeaders": {"retry-after": "4"}}
    )
    with pytest.raises(kind) as raised:
        bedrock.adapter.call(CHAT)
    assert "SECRET" not in str(raised.value)
    assert raised.value.__cause__ is None
    bedrock.stub.assert_no_pending_responses()
    if kind is ProviderBusy:
        assert raised.value.retry_after == 4


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointConnectionError(endpoint_url="https://x"), ProviderDown),
        (ReadTimeoutError(endpoint_url="https://x"), ProviderDown),
        (NoCredentialsError(), ProviderDenied),
        (NoRegionError(), ProviderRejected),
    ],
)
def test_a_failure_before_aws_is_one_of_ours(error, kind):
    class Broken:
        def converse(self, **_: object) -> None:
            raise error

    with pytest.raises(kind) as raised:
        ModelStore(Broken(), SystemClock()).converse("claude", {})
    assert isinstance(raised.value, Transient) == (kind is ProviderDown)
    assert isinstance(raised.value, Permanent) != (kind is ProviderDown)


def test_what_botocore_itself_refuses_is_not_quoted():
    bedrock = Bedrock()
    bedrock.stub.deactivate()  # a stub answers before botocore checks; no connection is made all the same
    with pytest.raises(ProviderRejected) as raised:
        ModelStore(bedrock.client, SystemClock()).converse("claude", {"modelId": MODEL, "messages": "SECRET"})
    assert "SECRET" not in str(raised.value)


def test_titan_embeds_one_text():
    bedrock = Bedrock(TITAN)
    assert bedrock.adapter.max_texts == 1
    bedrock.invokes(
        {"embedding": [0.5, -0.5], "inputTextTokenCount": 3},
        {"inputText": "some text", "normalize": True, "dimensions": 2},
    )
    assert bedrock.adapter.call(Embed(texts=("some text",), dimensions=2)) == Answer([[0.5, -0.5]], Usage(3))
    with pytest.raises(ProviderRejected, match="1 texts a call at most"):
        bedrock.adapter.call(Embed(texts=("a", "b")))


@pytest.mark.parametrize("model", ["cohere.embed-multilingual-v3", "cohere.embed-english-v3"])
def test_cohere_v3_embeds_in_its_form(model):
    bedrock = Bedrock(model)
    bedrock.invokes(
        {"embeddings": [[1.0], [0]], "response_type": "embeddings_floats"},
        {"texts": ["a", "b"], "input_type": "search_document", "truncate": "NONE"},
        {"x-amzn-bedrock-input-token-count": "9"},
    )
    assert bedrock.adapter.call(Embed(texts=("a", "b"))) == Answer([[1.0], [0]], Usage(9))


@pytest.mark.parametrize("model", ["cohere.embed-v4:0", "eu.cohere.embed-v4:0", "global.cohere.embed-v4:0"])
def test_cohere_v4_embeds_in_its_form(model):
    bedrock = Bedrock(model)
    bedrock.invokes(
        {"embeddings": {"float": [[0.1] * 256]}, "response_type": "embeddings_by_type"},
        {
            "texts": ["a"],
            "input_type": "search_document",
            "truncate": "NONE",
            "embedding_types": ["float"],
            "output_dimension": 256,
        },
    )
    answer = bedrock.adapter.call(Embed(texts=("a",), dimensions=256))
    assert answer == Answer([[0.1] * 256], Usage(1, estimated=True))
    with pytest.raises(ProviderRejected, match="96 texts"):
        bedrock.adapter.call(Embed(texts=("a",) * 97))


@pytest.mark.parametrize(
    "answer",
    [
        b"{",
        b"[]",
        {},
        {"embedding": []},
        {"embedding": "x"},
        {"embedding": ["x"]},
        {"embedding": [True]},
        {"embeddings": [[1], [2]]},
    ],
)
def test_vectors_of_another_form_are_none(answer):
    bedrock = Bedrock(TITAN)
    bedrock.invokes(answer)
    with pytest.raises(ProviderDown):
        bedrock.adapter.call(Embed(texts=("a",)))


def test_dimensions_that_are_not_heeded_are_noticed():
    bedrock = Bedrock("cohere.embed-english-v3")
    bedrock.invokes({"embeddings": [[1.0, 2.0]]})
    with pytest.raises(ProviderRejected, match="leave dimensions out"):
        bedrock.adapter.call(Embed(texts=("a",), dimensions=3))


def test_what_bedrock_has_no_form_for_is_refused_before_it_is_asked():
    with pytest.raises(ProviderRejected, match="titan-embed-text-v2"):
        Bedrock().adapter.call(Embed(texts=("a",)))
    with pytest.raises(ProviderRejected, match="Chat and Embed only"):
        Bedrock().adapter.call(Raw(body={}))


def test_the_stores_client_asks_once_and_waits_as_long_as_it_is_told():
    made: list[tuple[str, dict[str, Any]]] = []

    def make(service: str, **options: Any) -> str:
        made.append((service, options))
        return "client"

    store = Store(Settings(), client=make)
    store.models("us-east-1", 12.5)
    store.models("", 60)
    (service, first), (_, second) = made
    assert service == "bedrock-runtime"
    assert (first["region_name"], second["region_name"]) == ("us-east-1", None)
    assert first["config"].read_timeout == 12.5
    assert first["config"].retries["total_max_attempts"] == 1
