"""What a deployment's answers over HTTP say: values, why it refused, or that the request may be repeated."""

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
"""How long the retries of one request may pause in all; a signature holds for five minutes."""
_retry = partial(Retry, backoff_factor=0.3, allowed_methods=("GET", "POST"), total_timeout=MAX_RETRY_SECONDS)
REPEATABLE = _retry(total=4, status_forcelist=(429, 500, 502, 503, 504))
"""For reads, and for a submission with its idempotency key."""
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout)
NOT_REPEATABLE = _retry(total=4, status_forcelist=(429,), retry_on_exceptions=_UNSENT)
"""For commands: only what has surely not reached the deployment is sent again."""
ONCE = _retry(total=0)
"""For polls, which have pauses of their own."""

_S3_MESSAGE = re.compile(r"<Message>([^<]+)</Message>")


def decoded(answer: httpx.Response, kind: type[T]) -> T:
    """Return the value that an answer holds; raises `DeploymentUnreachable` if it holds none."""
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError as error:
        raise DeploymentUnreachable(f"{answer.url} does not answer as Backhaul does: {error}.") from error


def refusal(answer: httpx.Response) -> RequestRefused | DeploymentBusy:
    """Return what an answer other than a success means: the caller's mistake, or one that may pass."""
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
    """Return the seconds after which the request may be made again, if the answer says so."""
    try:
        return Retry().parse_retry_after(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
