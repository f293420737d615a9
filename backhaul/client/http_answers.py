"""What a deployment's answers over HTTP say: values, or why it refused."""

from __future__ import annotations

import html
import re
from typing import TypeVar

import httpx
import msgspec

from backhaul.model.api import ErrorBody
from backhaul.model.errors import DeploymentUnreachable, RequestRefused

T = TypeVar("T")

_S3_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")


def decoded(answer: httpx.Response, kind: type[T]) -> T:
    """Return the value that an answer holds; raises `DeploymentUnreachable` if it holds none."""
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise DeploymentUnreachable(f"{answer.url} does not answer as Backhaul does: {error}.") from error


def refusal(answer: httpx.Response) -> RequestRefused | DeploymentUnreachable:
    """Return what an answer other than a success means: the caller's mistake, or the deployment's."""
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, ErrorBody])["error"]
    except (msgspec.DecodeError, KeyError):
        said = _S3_MESSAGE.search(answer.text)
        text = html.unescape(said[1]) if said else answer.text.strip()[:300]
        error = ErrorBody("refused", f"{answer.status_code} {answer.reason_phrase}: {text}")
    if answer.is_server_error:
        return DeploymentUnreachable(f"{answer.url.host} does not work: {error.message}")
    return RequestRefused(error.code, error.message, answer.status_code)
