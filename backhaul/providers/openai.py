"""APIs that follow OpenAI's: OpenAI itself, Azure, Groq, Mistral, Together, vLLM, Ollama and many others."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from backhaul.providers.caller import HttpCaller
from backhaul.providers.calls import Answer, Chat, Embed, RateLimits, Raw, Request
from backhaul.providers.errors import ModelRefused, ProviderRejected, UnreadableAnswer
from backhaul.providers.usage import read_usage
from backhaul.providers.vectors import checked_vectors

MAX_TEXTS = 2048
_NEW_NAMES = ("api.openai.com", ".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
"""Hosts whose newer models refuse `max_tokens`. Other hosts may know only `max_tokens`."""


class OpenAIAdapter:
    """Calls one model of an API that follows OpenAI's."""

    max_texts = MAX_TEXTS

    def __init__(self, caller: HttpCaller) -> None:
        self._caller = caller
        self._provider = caller.provider
        host = urlsplit(caller.provider.base_url).hostname or ""
        self._max_tokens = "max_completion_tokens" if f".{host}".endswith(_NEW_NAMES) else "max_tokens"

    def call(self, request: Request, *, key: str | None = None, timeout: float | None = None) -> Answer:
        """Make one call and return its answer; raises the errors of `backhaul.providers.errors`."""
        if isinstance(request, Chat):
            found, limits = self._caller.post("/chat/completions", self._chat_body(request), key, timeout)
            return self._chat_answer(request, found, limits)
        if isinstance(request, Embed):
            found, limits = self._caller.post("/embeddings", self._embed_body(request), key, timeout)
            vectors = checked_vectors(self._provider.name, request, _vectors_in(found))
            return Answer(content=vectors, usage=read_usage(found.get("usage"), request, vectors), limits=limits)
        return raw_answer(self._caller, request, key, timeout)

    def _chat_body(self, request: Chat) -> dict[str, Any]:
        system = [{"role": "system", "content": request.system}] if request.system else []
        turns = [{"role": each.role, "content": each.content} for each in request.messages]
        body: dict[str, Any] = {"model": self._provider.model, "messages": [*system, *turns]}
        if request.max_tokens is not None:
            body[self._max_tokens] = request.max_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.json_schema is not None:
            form = {"name": "answer", "schema": request.json_schema, "strict": is_strict(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def _embed_body(self, request: Embed) -> dict[str, Any]:
        if len(request.texts) > MAX_TEXTS:
            raise ProviderRejected(f"{self._provider.name} takes {MAX_TEXTS} texts a call at most; send fewer.")
        body: dict[str, Any] = {"model": self._provider.model, "input": list(request.texts)}
        return body if request.dimensions is None else body | {"dimensions": request.dimensions}

    def _chat_answer(self, request: Chat, found: Any, limits: RateLimits | None) -> Answer:
        name = self._provider.name
        try:
            choice = found["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason") or "stop"
            content = message.get("content")
            refused = bool(message.get("refusal")) or finish == "content_filter"
        except (AttributeError, IndexError, KeyError, TypeError):
            raise UnreadableAnswer(f"{name} answered without a choice.") from None
        # A reasoning model may use all of its tokens before it writes any text.
        if content is None and finish == "length":
            content = ""
        usage = read_usage(found.get("usage"), request, content or "")
        if refused:
            tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
            raise ModelRefused(f"{name}: the model, or its filter, will not answer this.", **tokens)
        if not isinstance(content, str) or not isinstance(finish, str):
            raise UnreadableAnswer(f"{name} answered without a text.")
        return Answer(content=content, usage=usage, finish=finish, limits=limits)


def raw_answer(caller: HttpCaller, request: Raw, key: str | None, timeout: float | None) -> Answer:
    """Post any JSON and return the answer's JSON as its content."""
    found, limits = caller.post(request.path, request.body, key, timeout)
    said = found.get("usage") if isinstance(found, dict) else None
    return Answer(content=found, usage=read_usage(said, request, found), limits=limits)


def is_strict(schema: Any) -> bool:
    """Return whether OpenAI's strict mode takes the schema: every object is closed, and requires all its properties."""
    if isinstance(schema, list):
        return all(is_strict(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        names = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or {*names} != {*schema.get("required", ())}:
            return False
    return all(is_strict(each) for each in schema.values())


def _vectors_in(found: Any) -> Any:
    """Return the vectors in the order of the texts; None if an entry has another form, and then the caller raises."""
    try:
        return [each["embedding"] for each in sorted(found["data"], key=lambda each: int(each["index"]))]
    except (KeyError, TypeError, ValueError):
        return None
