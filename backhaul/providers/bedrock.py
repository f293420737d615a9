"""Amazon Bedrock: chats through Converse, and vectors from Amazon Titan v2 and Cohere through InvokeModel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from backhaul.providers.calls import Answer, Chat, Embed, Request
from backhaul.providers.errors import ModelRefused, ProviderRejected, UnreadableAnswer
from backhaul.providers.provider import Provider
from backhaul.providers.usage import read_usage
from backhaul.providers.vectors import checked_vectors

_TOOL = "answer"
_REFUSED = frozenset({"content_filtered", "guardrail_intervened", "refusal"})
_FINISH = {"end_turn": "stop", "tool_use": "stop", "stop_sequence": "stop", "max_tokens": "length"} | {
    "model_context_window_exceeded": "length"
}
_INPUT_TOKENS = "x-amzn-bedrock-input-token-count"
_TITAN = re.compile(r"\bamazon\.titan-embed-text-v2\b")
_COHERE = re.compile(r"\bcohere\.embed-(?:v(?P<new>[0-9]+)|[a-z-]+-v3)\b")
_MAX_COHERE_TEXTS = 96


class Models(Protocol):
    """A client of Bedrock, such as `backhaul.store.models.ModelStore`.

    Both methods raise the errors of `backhaul.providers.errors`.
    """

    def converse(self, provider: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of Converse."""

    def invoke(self, provider: str, model: str, body: bytes) -> tuple[bytes, Mapping[str, str]]:
        """Return the answer of InvokeModel and its headers with names in lower case."""


class BedrockAdapter:
    """Calls one model of Bedrock; idempotency keys are not sent, and the client has the time limit."""

    def __init__(self, provider: Provider, models: Models) -> None:
        self._provider = provider
        self._models = models
        self.max_texts = 1 if _TITAN.search(provider.model) else _MAX_COHERE_TEXTS

    def call(self, request: Request, *, key: str | None = None, timeout: float | None = None) -> Answer:  # noqa: ARG002
        """Make one call and return its answer; raises the errors of `backhaul.providers.errors`."""
        if isinstance(request, Chat):
            found = self._models.converse(self._provider.name, self._chat_body(request))
            return self._chat_answer(request, found)
        if isinstance(request, Embed):
            return self._embed(request)
        raise ProviderRejected(f"{self._provider.name} is of the kind bedrock, which takes Chat and Embed only.")

    def _chat_body(self, request: Chat) -> dict[str, Any]:
        body: dict[str, Any] = {
            "modelId": self._provider.model,
            "messages": [{"role": each.role, "content": [{"text": each.content}]} for each in request.messages],
        }
        if request.system:
            body["system"] = [{"text": request.system}]
        settings = {"maxTokens": request.max_tokens, "temperature": request.temperature}
        if chosen := {name: value for name, value in settings.items() if value is not None}:
            body["inferenceConfig"] = chosen
        if request.json_schema is not None:
            # A tool that the model must use, not outputConfig: more models and older versions of botocore support it.
            form = {"name": _TOOL, "description": "Gives the answer.", "inputSchema": {"json": request.json_schema}}
            body["toolConfig"] = {"tools": [{"toolSpec": form}], "toolChoice": {"any": {}}}
        return body

    def _chat_answer(self, request: Chat, found: Mapping[str, Any]) -> Answer:
        name, finish = self._provider.name, str(found.get("stopReason", "end_turn"))
        try:
            blocks = found["output"]["message"]["content"]
            content = _content_of(blocks) if isinstance(blocks, list) else None
        except (AttributeError, KeyError, TypeError):
            content = None
        usage = read_usage(found.get("usage"), request, content or "")
        if finish in _REFUSED:
            tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
            raise ModelRefused(f"{name}: the model, or a guardrail, will not answer this.", **tokens)
        finish = _FINISH.get(finish, finish)
        if content is None and finish == "length":
            content = ""
        if content is None:
            raise UnreadableAnswer(f"{name} answered without a text.")
        return Answer(content=content, usage=usage, finish=finish)

    def _embed(self, request: Embed) -> Answer:
        name = self._provider.name
        if len(request.texts) > self.max_texts:
            raise ProviderRejected(f"{name} takes {self.max_texts} texts a call at most; send fewer.")
        body = msgspec.json.encode(self._embed_body(request))
        answer, headers = self._models.invoke(name, self._provider.model, body)
        try:
            found = msgspec.json.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UnreadableAnswer(f"{name} answered with something that is not JSON.") from None
        found = found if isinstance(found, dict) else {}
        vectors = found.get("embeddings")
        if isinstance(vectors, dict):  # by type, if the request asked for types
            vectors = vectors.get("float")
        vectors = checked_vectors(name, request, [found["embedding"]] if "embedding" in found else vectors)
        counted = headers.get(_INPUT_TOKENS, "")
        said = int(counted) if counted.isascii() and counted.isdigit() else found.get("inputTextTokenCount")
        return Answer(content=vectors, usage=read_usage({"inputTokens": said}, request, vectors))

    def _embed_body(self, request: Embed) -> dict[str, Any]:
        model, size = self._provider.model, request.dimensions
        if _TITAN.search(model):
            return {"inputText": request.texts[0], "normalize": True} | ({"dimensions": size} if size else {})
        cohere = _COHERE.search(model)
        if not cohere:
            raise ProviderRejected(
                f"{self._provider.name}: vectors are known of amazon.titan-embed-text-v2 and cohere.embed models only."
            )
        # NONE makes a text that is too long an error; the other values cut it without notice.
        body = {"texts": list(request.texts), "input_type": "search_document", "truncate": "NONE"}
        if cohere["new"] is None:
            return body
        return body | {"embedding_types": ["float"]} | ({"output_dimension": size} if size else {})


def _content_of(blocks: list[Any]) -> str | None:
    """Return the answer's text, or the tool's input as JSON, without the model's reasoning."""
    for each in blocks:
        if "toolUse" in each:
            return msgspec.json.encode(each["toolUse"]["input"]).decode()
    texts = [each["text"] for each in blocks if isinstance(each.get("text"), str)]
    return "".join(texts) if texts else None
