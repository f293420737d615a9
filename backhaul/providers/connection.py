"""One HTTP call: JSON by POST, once, to one host, in a bounded time, for an answer of a bounded size."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import urllib3

from backhaul.providers.errors import ProviderDenied, ProviderDown, ProviderRejected, UnreadableAnswer
from backhaul.providers.reach import Forbidden, PlainConnection, SecureConnection, Unreached, bounded, tls_context

MAX_ANSWER = 32 * 1024 * 1024
_PIECE = 64 * 1024
_CONNECTIONS = 64
"""Connections kept open to a host; more calls at once than that open their own."""


@dataclass(frozen=True)
class Reply:
    """An answer as it came; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, provider: str) -> Any:
        """Return what the body says; raises `UnreadableAnswer` if it is no JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnreadableAnswer(f"{provider} answered {self.status} with something that is not JSON.") from None


def post(
    provider: str, url: str, body: Any, headers: Mapping[str, str], timeout: float, *, is_local: bool = False
) -> Reply:
    """Post JSON and return the answer, whatever its status; raises `ProviderDown` if there is none in time.

    The time counts from here to the last byte, whatever is done in it. Redirects are not followed: a key must not go
    where nobody sent it. Raises `ProviderDenied` if the provider is where none may be; `is_local` says whether it may
    be on this machine or in its private network.
    """
    with bounded(timeout, is_local=is_local) as call:
        try:
            return _exchange(provider, url, body, headers, timeout, is_local=is_local)
        except Forbidden as error:
            raise ProviderDenied(f"{provider}: {error}") from None
        except Unreached as error:
            raise ProviderDown(f"{provider} gave no whole answer: {error}.") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # Without a cause: some of these quote what came, or what went.
            may_be_paid = call.is_sent and not _wants_certificate(error)
            raise ProviderDown(f"{provider} gave no whole answer: {_kind(error)}.", may_be_paid=may_be_paid) from None


def _exchange(
    provider: str, url: str, body: Any, headers: Mapping[str, str], timeout: float, *, is_local: bool
) -> Reply:
    response = open_pool(is_local).request(
        "POST",
        url,
        body=msgspec.json.encode(body),
        # Compressed, a small answer could be a large one.
        headers={"Content-Type": "application/json", "Accept": "application/json", **_PLAIN, **headers},
        timeout=timeout,
        retries=False,
        redirect=False,
        preload_content=False,
    )
    try:
        return Reply(response.status, _lower(response.headers), _body_of(response, provider))
    except BaseException:
        response.close()
        raise
    finally:
        response.release_conn()


_PLAIN = {"Accept-Encoding": "identity", "User-Agent": "backhaul"}


@cache
def open_pool(is_local: bool) -> urllib3.PoolManager:  # noqa: ARG001  # the cache's key: what was judged by one rule
    """Return this process's connections; it takes a tenth of a second to make the pool."""
    pool = urllib3.PoolManager(
        num_pools=32,
        maxsize=_CONNECTIONS,
        retries=False,
        ssl_context=tls_context(),
        # Said in full: the urllib3 1.26 that a Lambda runtime may have verifies nothing by default.
        cert_reqs="CERT_REQUIRED",
    )
    pool.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}
    return pool


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = PlainConnection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = SecureConnection


def _body_of(response: urllib3.BaseHTTPResponse, provider: str) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise UnreadableAnswer(f"{provider} compressed its answer, which nobody asked for.")
    read = getattr(response, "read1", response.read)  # returns what has come; urllib3 1.26 has only the other
    pieces: list[bytes] = []
    size = 0
    while piece := read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise ProviderRejected(
                f"{provider} answered with more than {MAX_ANSWER // 1024**2} MB; ask for less.", may_be_paid=True
            )
    return b"".join(pieces)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _wants_certificate(error: Exception) -> bool:
    """Return whether TLS ended because we have no certificate: with TLS 1.3 the request has left before we hear it."""
    inner = error.args[0] if error.args else error
    return "CERTIFICATE_REQUIRED" in str(getattr(inner, "reason", ""))


def _kind(error: Exception) -> str:
    """Return what went wrong, in words that quote nothing."""
    found = urllib3.exceptions
    if isinstance(error, found.TimeoutError | TimeoutError):
        return "out of time"
    if isinstance(error, found.SSLError | ssl.SSLError):
        return "no secure connection"
    return "the connection broke"
