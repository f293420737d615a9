"""Requests to a provider and its answers, as values that can be stored as steps."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import Struct

from backhaul.model.versions import StoredRecord, upgraded
from backhaul.providers.tokens import estimate_tokens

OUTPUT_TOKENS = 1024
"""The output tokens that are assumed for an answer whose request sets no limit."""
_MESSAGE_TOKENS = 4
"""The tokens that OpenAI's form of a chat adds to each message."""


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation: `Message("user", "…")`."""

    role: Literal["user", "assistant"]
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("user", "assistant"):
            raise ValueError(
                f"A message is of the role user or assistant, not {self.role!r}; system is a field of Chat."
            )
        if not isinstance(self.content, str):
            raise ValueError("A message's content is text.")


class Chat(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A conversation that the model continues; an invalid one raises `ValueError`."""

    messages: tuple[Message, ...]
    """The model answers the last one."""
    system: str | None = None
    """Instructions that the model gets before the conversation."""
    max_tokens: int | None = None
    """The most tokens of the answer. Default: as many as the provider allows."""
    temperature: float | None = None
    json_schema: dict[str, Any] | None = None
    """The JSON Schema, of type "object", that the answer must follow; its content is then JSON as text."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "messages", tuple(self.messages))
        if not self.messages or self.messages[-1].role != "user":
            raise ValueError("A chat ends with a message of the user: that is what the model answers.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError("max_tokens must be 1 or more; leave it out to let the provider decide.")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError("temperature must be from 0 to 2.")
        if self.json_schema is not None and self.json_schema.get("type") != "object":
            raise ValueError('json_schema must be of "type": "object", as every provider asks for: wrap a list in one.')


class Embed(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Texts that the model turns into vectors, one for each text in the same order; invalid ones raise `ValueError`."""

    texts: tuple[str, ...]
    dimensions: int | None = None
    """The length of each vector, for models that offer several."""

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            raise ValueError("texts is a list of texts, not one text.")
        msgspec.structs.force_setattr(self, "texts", tuple(self.texts))
        if not self.texts or not all(self.texts):
            raise ValueError("Embed needs a text, and none may be empty: no provider takes that.")
        if self.dimensions is not None and self.dimensions < 1:
            raise ValueError("dimensions must be 1 or more.")


class Raw(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Any JSON, which is posted to a path below the provider's base_url; an invalid path raises `ValueError`."""

    body: Any
    path: str = ""

    def __post_init__(self) -> None:
        plain = self.path.isascii() and self.path.isprintable() and not set(self.path) & set(' \\#"<>')
        if self.path and not (plain and self.path.startswith("/") and not self.path.startswith("//")):
            raise ValueError('A path begins with one "/", as in "/translate", and has no spaces.')
        if ".." in self.path.partition("?")[0].split("/"):
            raise ValueError('A path has no "..": it stays below the provider\'s base_url.')


Request = Chat | Embed | Raw
"""The requests that an adapter takes."""


class Usage(Struct, frozen=True, omit_defaults=True):
    """The tokens that a provider charges for a call."""

    input_tokens: int
    output_tokens: int = 0
    estimated: bool = False
    """Whether a count is estimated, because the provider's is missing or cannot be true."""


class RateLimits(Struct, frozen=True, omit_defaults=True):
    """The limits that came with a provider's answer; None for each that the provider did not send."""

    requests_limit: int | None = None
    """The limit itself: the most requests that can be left."""
    tokens_limit: int | None = None
    requests_left: int | None = None
    tokens_left: int | None = None
    requests_reset: float | None = None
    """Seconds until the full limit of requests is available again."""
    tokens_reset: float | None = None


class Answer(Struct, frozen=True, omit_defaults=True):
    """A provider's answer; `msgspec.to_builtins` turns it into types of JSON."""

    content: Any
    """A text for `Chat`, a list of vectors for `Embed`, the parsed JSON for `Raw`."""
    usage: Usage
    finish: str = "stop"
    """"stop"; "length" if max_tokens or the model's window cut the answer off; otherwise the provider's own word."""
    limits: RateLimits | None = None

    @classmethod
    def from_stored(cls, answer: bytes) -> Answer:
        """Return an answer that was stored as JSON, by this or an earlier version of Backhaul."""
        return msgspec.convert(
            upgraded(StoredRecord.ANSWER, msgspec.json.decode(answer, type=dict[str, Any]), "an answer"), cls
        )


def estimate_input(request: Request) -> int:
    """Return about how many input tokens the provider will count for a request."""
    if isinstance(request, Chat):
        texts = [each.content for each in request.messages] + ([request.system] if request.system else [])
        schema = estimate_tokens(_json(request.json_schema)) if request.json_schema else 0
        return sum(estimate_tokens(text) + _MESSAGE_TOKENS for text in texts) + schema
    if isinstance(request, Embed):
        return sum(map(estimate_tokens, request.texts))
    return estimate_tokens(_json(request.body))


def max_estimate(request: Request) -> Usage:
    """Return the most tokens that a call is expected to take, judged by its request."""
    output = (request.max_tokens or OUTPUT_TOKENS) if isinstance(request, Chat) else 0
    return Usage(estimate_input(request), output)


def estimate_output(content: Any) -> int:
    """Return about how many output tokens the provider charged for an answer's content; 0 for vectors."""
    if isinstance(content, str):
        return estimate_tokens(content)
    return 0 if _is_vectors(content) else estimate_tokens(_json(content))


def _is_vectors(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, list) and bool(first) and isinstance(first[0], int | float) and math.isfinite(first[0])


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
