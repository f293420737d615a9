"""The rules that turn a provider's error answer, over HTTP or from AWS, into one of our errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from backhaul.model.errors import WorkError
from backhaul.providers.errors import (
    ModelRefused,
    PromptTooLong,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
)
from backhaul.providers.limits import read_retry_after

_CODE = re.compile(r"[a-z]+(_[a-z]+){0,5}|[A-Z][a-z]+([A-Z][a-z]+){0,5}")
"""The form of an error code, which neither a key nor a prompt has; only such a code is shown."""
_MAX_CODE = 48
_NO_CREDIT = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
)
_FILTERED = frozenset({"content_filter", "content_policy_violation", "moderation_blocked"})
_TOO_LONG = frozenset(
    {"context_length_exceeded", "string_above_max_length", "request_too_large", "max_tokens_exceeded"}
)
_TOO_LONG_SAID = re.compile(
    r"context[ _](length|window)|maximum context|prompt is too long|input is too long|too many (input )?tokens"
    r"|reduce the length|exceeds? the (maximum|max)[a-z ]* tokens|expected max(imum)? ?length|string too long",
    re.IGNORECASE,
)
_FILTERED_SAID = re.compile(
    r"content[ _](filter|management policy|policy violation)|blocked by guardrail", re.IGNORECASE
)
_DENIED = frozenset({401, 402, 403})
_DOWN = frozenset({408, 421, 425, 499})
_CUT_OFF = frozenset({408, 499, 504})
"""Statuses of a proxy or client that gave up waiting: the model may have answered, and the call may be charged."""
_AWS_BUSY = frozenset(
    {
        "ModelNotReadyException",
        "RequestLimitExceeded",
        "ServiceQuotaExceededException",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_AWS_DOWN = frozenset(
    {
        "InternalFailure",
        "InternalServerException",
        "ModelErrorException",
        "ModelTimeoutException",
        "RequestTimeout",
        "ServiceUnavailable",
        "ServiceUnavailableException",
    }
)
_AWS_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_MODEL_DENIED_SAID = re.compile(
    r"Invocation of model ID \S+ with on-demand throughput isn.t supported"
    r"|The provided model doesn.t support on-demand throughput|The provided model identifier is invalid"
    r"|The provided inference profile |This action doesn.t support the model that you provided"
    r"|You have not filled out the required use-case form|Operation not allowed",
    re.IGNORECASE,
)
"""The beginning of a `ValidationException` that is about the model; AWS has no error code for that.

Only the beginning is compared, because the rest may quote a name from a caller's JSON Schema.
"""


def http_failure(provider: str, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> WorkError:
    """Return the error for an HTTP answer that is no success; header names are in lower case."""
    codes, said = _error_in(body)
    shown = next((code for code in codes if len(code) <= _MAX_CODE and _CODE.fullmatch(code)), "")
    told = f"{provider} answered {status}{f' ({shown})' if shown else ''}"
    wait = read_retry_after(headers, now)
    # Filters come first, because their statuses differ and would mean something else below: only this request is at
    # fault. A 429 is always a limit, whatever its text says.
    if 400 <= status < 500 and status != 429 and (_FILTERED & {*codes} or _FILTERED_SAID.search(said)):
        return ModelRefused(f"{told}: a content filter refused the request.")
    if status in _DENIED or _NO_CREDIT & {*codes}:
        return ProviderDenied(f"{told}: the provider refuses the key, or the account has no credit. Check both.")
    # 409: an earlier call with the same idempotency key is still running, so the next try may succeed. OpenAI's own
    # clients wait too.
    if status in (409, 429):
        return ProviderBusy(f"{told}: a limit of the provider is reached.", wait)
    if status >= 500 or status in _DOWN:
        return ProviderDown(f"{told}: the provider is out of order.", wait, may_be_paid=status in _CUT_OFF)
    # A redirect is not followed, because it could send the key to another host.
    if 300 <= status < 400:
        return ProviderRejected(f"{told}, a redirect. Set base_url to the address where the API is now.")
    if status == 413 or _TOO_LONG & {*codes} or _TOO_LONG_SAID.search(said):
        return PromptTooLong(f"{told}: the request is too long for the model's context window.")
    if 400 <= status < 500:
        return ProviderRejected(f"{told}: the provider does not accept such a request.")
    # A status below 200 is no final answer, so the provider may have done the call.
    return ProviderDown(f"{told}, which is not a final answer to a POST.", may_be_paid=True)


def aws_failure(
    provider: str, code: str, message: str, status: int, headers: Mapping[str, str], now: datetime
) -> WorkError:
    """Return the error for an error of AWS; its message decides the kind and is not quoted."""
    shown = code if len(code) <= _MAX_CODE and _CODE.fullmatch(code) else str(status)
    told = f"{provider} answered {shown}"
    wait = read_retry_after(headers, now)
    if code in _AWS_DENIED:
        return ProviderDenied(f"{told}: the worker's role may not call this model in this region.")
    # In Converse and InvokeModel only the model can be missing, so every record fails until an operator mends it.
    if code == "ResourceNotFoundException" or (code == "ValidationException" and _MODEL_DENIED_SAID.match(message)):
        return ProviderDenied(
            f"{told}: the account cannot use this model. The model is retired, does not exist in this "
            "region, is available only through an inference profile, or needs a use case form."
        )
    if code in _AWS_BUSY or status == 429:
        return ProviderBusy(f"{told}: a limit of the provider is reached.", wait)
    if code in _AWS_DOWN or status >= 500 or status in (408, 424):
        return ProviderDown(f"{told}: the provider is out of order.", wait, may_be_paid=status in _CUT_OFF)
    if _TOO_LONG_SAID.search(message):
        return PromptTooLong(f"{told}: the request is too long for the model's context window.")
    if _FILTERED_SAID.search(message):
        return ModelRefused(f"{told}: a content filter refused the request.")
    if status in _DENIED:
        return ProviderDenied(f"{told}: the worker's role may not call this model in this region.")
    return ProviderRejected(f"{told}: the provider does not accept such a request.")


def _error_in(body: bytes) -> tuple[tuple[str, ...], str]:
    """Return an answer's error codes and message, from the forms of OpenAI, Anthropic, vLLM and others."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return (), ""
    if isinstance(found, dict) and "error" in found:
        found = found["error"]
    if not isinstance(found, dict):
        return (), found if isinstance(found, str) else ""
    codes = tuple(value for name in ("code", "type") if isinstance(value := found.get(name), str))
    said = found.get("message", found.get("detail", ""))
    return codes, said if isinstance(said, str) else ""
