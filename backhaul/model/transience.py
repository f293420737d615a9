"""Which failures may pass: the only place that decides it, for a processor's records and for the stores."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from urllib.error import URLError

from backhaul.model.errors import BackhaulError, Transient

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
        "TransactionConflictException",
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
    """Return whether the same call may succeed later; `Transient` and `Permanent` of a processor come first."""
    try:
        return _is_transient(error)
    except Exception:  # attributes of a foreign exception may be of any type, and reading them may raise
        return False


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, Transient):
        return True
    # Backhaul's other errors carry a status for the HTTP API: it says nothing of a record.
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
