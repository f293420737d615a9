"""Which failures of a record may pass, and how long to wait before it is tried again: decided here only."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.error import URLError

from backhaul.errors import BackhaulError, Transient

BACKOFF_LONGEST = 60.0
WAIT_LONGEST = 300.0
"""What a provider's Retry-After is believed at most; the next attempt asks it again."""

# The system's own: workers that were restored from one snapshot would otherwise all wait for the same time.
_random = random.SystemRandom()

_STATUSES = frozenset({408, 425, 429})
_AWS_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "InternalServerError",
        "InternalServerException",
        "LimitExceededException",
        "ModelNotReadyException",
        "ModelTimeoutException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_CLASSES = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "anthropic.APIConnectionError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "httpx.TransportError",
        "openai.APIConnectionError",
        "requests.ConnectionError",
        "requests.Timeout",
        "urllib3.HTTPError",
    }
)
"""Failures of a connection that are neither `ConnectionError` nor `TimeoutError`, as package and class."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed later; a processor's own word on it comes first."""
    try:
        return _is_transient(error)
    except Exception:  # an exception may be of any making, and so may what it carries
        return False


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, Transient):
        return True
    # Other errors of ours carry a status too, but for the HTTP API: it says nothing of a record.
    if isinstance(error, BackhaulError) or not isinstance(error, Exception):
        return False
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        return is_transient(error.reason)
    status, code = _answer_of(error)
    if code in _AWS_CODES or (status is not None and (status in _STATUSES or 500 <= status < 600)):
        return True
    return any(f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in _CLASSES for kind in type(error).__mro__)


def delay_before(tries: int, error: BaseException, now: datetime) -> float:
    """Return the seconds to wait after so many failed tries: 1, 2, 4 … with full jitter, or what the provider asks."""
    backoff = _random.uniform(0, min(2.0 ** (tries - 1), BACKOFF_LONGEST))
    try:
        asked = _asked_for(error, now)
    except Exception:  # the same
        asked = 0.0
    return max(backoff, min(asked, WAIT_LONGEST))


def _answer_of(error: BaseException) -> tuple[int | None, str]:
    """Return the HTTP status and the AWS error code that an exception carries, in boto3's or in HTTP clients' form."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, str(response.get("Error", {}).get("Code", ""))
    # urllib says `code`, aiohttp and some SDKs say `status`.
    for holder, name in ((response, "status_code"), (error, "status_code"), (error, "status"), (error, "code")):
        status = getattr(holder, name, None)
        if isinstance(status, int) and not isinstance(status, bool):
            return status, ""
    return None, ""


def _asked_for(error: BaseException, now: datetime) -> float:
    given: Any = getattr(error, "retry_after", None)
    if given is None:
        given = _header(error, "retry-after")
    try:
        return max(float(given), 0.0)
    except (TypeError, ValueError):
        pass
    try:
        return max((parsedate_to_datetime(given) - now).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _header(error: BaseException, name: str) -> Any:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        headers: Any = response.get("ResponseMetadata", {}).get("HTTPHeaders")
    else:
        headers = getattr(response, "headers", None) or getattr(error, "headers", None)
    return headers.get(name) if hasattr(headers, "get") else None
