"""One call of the strict provider: its request, its answer, and its price in tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prove.strict.answers import chat_text, count_tokens, structured_text, vector
from prove.strict.state import Settings


class Bad(Exception):
    """A call that is answered with an error: its HTTP status and its code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Paid:
    """A valid call with its answer and its price in tokens; the provider has not yet let it through its limits."""

    tokens_in: int
    tokens_out: int
    answer: dict[str, Any]


def read_call(path: str, body: Any, settings: Settings) -> Paid:
    """Return the answer to a call and its price in tokens; raises `Bad`."""
    if not isinstance(body, dict):
        raise Bad(400, "invalid_request_error", "The body is not an object.")
    try:
        if path.endswith("/chat/completions"):
            return _chat(body, settings)
        if path.endswith("/embeddings"):
            return _embed(body, settings)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Bad(400, "invalid_request_error", f"Not understood: {type(error).__name__}.") from None
    tokens = count_tokens(json.dumps(body))
    return Paid(tokens, 0, {"echo": body, "usage": {"input_tokens": tokens, "output_tokens": 0}})


def served(call: Paid, answer: bytes, outage: str) -> bytes:
    """Return the bytes to send for an answer; an outage of the kind `malformed` or `wrong_usage` spoils them."""
    if outage == "malformed":
        return answer[: len(answer) // 2]
    if outage == "wrong_usage":
        usage = {"prompt_tokens": -1, "completion_tokens": 10**12, "total_tokens": "many"}
        return json.dumps(call.answer | {"usage": usage}, ensure_ascii=False).encode()
    return answer


def _chat(body: dict[str, Any], settings: Settings) -> Paid:
    texts = [each["content"] for each in body["messages"]]
    if not body["model"] or not all(isinstance(each, str) for each in texts):
        raise ValueError
    tokens_in = sum(count_tokens(each) + 3 for each in texts)
    _check_window(tokens_in, settings)
    form = body.get("response_format")
    text = structured_text(body, form["json_schema"]["schema"], settings.invalid_share) if form else chat_text(body)
    finish, message = "stop", _message(text)
    if texts[-1].startswith("refuse: "):
        text, message = "", _message(None, refusal="I would rather not.")
    elif texts[-1].startswith("filter: "):
        text, finish, message = "", "content_filter", _message("")
    most = body.get("max_tokens", body.get("max_completion_tokens"))
    if most is not None and count_tokens(text) > most:
        text = text.encode()[: most * 4].decode(errors="ignore")
        finish, message = "length", _message(text)
    tokens_out = count_tokens(text)
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    answer = {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
    return Paid(tokens_in, tokens_out, answer)


def _message(content: str | None, **more: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def _embed(body: dict[str, Any], settings: Settings) -> Paid:
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if not body["model"] or not texts or not all(isinstance(each, str) and each for each in texts):
        raise ValueError
    tokens = sum(map(count_tokens, texts))
    _check_window(max(map(count_tokens, texts)), settings)
    size = body.get("dimensions", settings.dimensions)
    data = [{"index": place, "embedding": vector(text, size)} for place, text in enumerate(texts)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Paid(tokens, 0, {"object": "list", "model": body["model"], "data": data, "usage": usage})


def _check_window(tokens: int, settings: Settings) -> None:
    if settings.context_tokens and tokens > settings.context_tokens:
        most = settings.context_tokens
        raise Bad(400, "context_length_exceeded", f"This model's maximum context length is {most} tokens.")
