"""Reads a deployment's HTTP answers: as values, as refusals, or as a reason to repeat the request."""

from __future__ import annotations

import html
import re
from functools import partial
from typing import TypeVar

import httpx
import msgspec
from httpx_retries import Retry

from backhaul.model.api import ErrorBody
from backhaul.model.errors import DeploymentBusy, DeploymentUnreachable, RequestRefused

T = TypeVar("T")

MAX_RETRY_SECONDS = 60.0
"""How long the retries of one request may pause in all; a signature is valid for five minutes."""
_retry = partial(Retry, backoff_factor=0.3, allowed_methods=("GET", "POST"), total_timeout=MAX_RETRY_SECONDS)
REPEATABLE = _retry(total=4, status_forcelist=(429, 500, 502, 503, 504))
"""The retries of reads, and of submissions, which have an idempotency key."""
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout)
NOT_REPEATABLE = _retry(total=4, status_forcelist=(429,), retry_on_exceptions=_UNSENT)
"""The retries of commands: only requests that surely did not reach the deployment, or were refused with 429."""
ONCE = _retry(total=0)
"""No retries: for polls, which have pauses of their own."""

_S3_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")


def decoded(answer: httpx.Response, kind: type[T]) -> T:
    """Return the value in an answer; raises `DeploymentUnreachable` if the answer does not hold one of this kind."""
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise DeploymentUnreachable(f"{answer.url} does not answer as Backhaul does: {error}.") from error


def refusal(answer: httpx.Response) -> RequestRefused | DeploymentBusy:
    """Return the error for an answer that is no success: the caller's mistake, or a failure that may pass."""
    try:
        error = msgspec.json.decode(answer.content, type=dict[str, ErrorBody])["error"]
    except (msgspec.DecodeError, KeyError):
        said = _S3_MESSAGE.search(answer.text)
        text = html.unescape(said[1]) if said else answer.text.strip()[:300]
        error = ErrorBody("refused", f"{answer.status_code} {answer.reason_phrase}: {text}")
    too_many = answer.status_code == httpx.codes.TOO_MANY_REQUESTS
    if too_many or answer.is_server_error:
        what = "takes no more requests for now" if too_many else "does not work"
        return DeploymentBusy(f"{answer.url.host} {what}: {error.message}", _retry_after(answer))
    return RequestRefused(error.code, error.message, answer.status_code)


def _retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds of the answer's Retry-After; None if it has none."""
    try:
        return Retry().parse_retry_after(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
