"""One HTTP call: it posts JSON once to one host, and bounds its own time and the size of the answer."""

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
"""Connections that are kept open to a host; further calls at the same time open their own."""


@dataclass(frozen=True)
class Reply:
    """An HTTP answer of any status; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, provider: str) -> Any:
        """Return the body's parsed JSON; raises `UnreadableAnswer` if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise UnreadableAnswer(f"{provider} answered {self.status} with something that is not JSON.") from None


def post(
    provider: str, url: str, body: Any, headers: Mapping[str, str], timeout: float, *, is_local: bool = False
) -> Reply:
    """Post JSON and return the answer of any status; raises `ProviderDown` if no whole answer comes in time.

    `timeout`, in seconds, covers everything up to the last byte: the name's resolution, the connection, the answer.
    Redirects are not followed, because they could send the key to another host. Raises `ProviderDenied` if the
    provider's address is forbidden; `is_local` says whether it may be on this machine or in its private network.
    """
    with bounded(timeout, is_local=is_local) as call:
        try:
            return _exchange(provider, url, body, headers, timeout, is_local=is_local)
        except Forbidden as error:
            raise ProviderDenied(f"{provider}: {error}") from None
        except Unreached as error:
            raise ProviderDown(f"{provider} gave no complete answer: {error}.") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            # No cause is kept: some of these errors quote the request or the answer.
            may_be_paid = call.is_sent and not _wants_certificate(error)
            raise ProviderDown(
                f"{provider} gave no complete answer: {_kind(error)}.", may_be_paid=may_be_paid
            ) from None


def _exchange(
    provider: str, url: str, body: Any, headers: Mapping[str, str], timeout: float, *, is_local: bool
) -> Reply:
    response = open_pool(is_local).request(
        "POST",
        url,
        body=msgspec.json.encode(body),
        # No compression: a small compressed answer could become a very large one.
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
def open_pool(is_local: bool) -> urllib3.PoolManager:  # noqa: ARG001  # part of the cache's key: the two rules on addresses share no connections
    """Return this process's pool of connections; the first call takes a tenth of a second."""
    pool = urllib3.PoolManager(
        num_pools=32,
        maxsize=_CONNECTIONS,
        retries=False,
        ssl_context=tls_context(),
        # Explicit, because urllib3 1.26, which a Lambda runtime may have, verifies no certificates by default.
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
        raise UnreadableAnswer(f"{provider} compressed its answer, although the request did not allow that.")
    read = getattr(response, "read1", response.read)  # read1 returns what has arrived; urllib3 1.26 has only read
    pieces: list[bytes] = []
    size = 0
    while piece := read(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise ProviderRejected(
                f"{provider} answered with more than {MAX_ANSWER // 1024**2} MB. Ask for a shorter answer.",
                may_be_paid=True,
            )
    return b"".join(pieces)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _wants_certificate(error: Exception) -> bool:
    """Return whether the provider's TLS demands a client certificate.

    With TLS 1.3 the request has left before this error arrives, but the provider did not process it.
    """
    inner = error.args[0] if error.args else error
    return "CERTIFICATE_REQUIRED" in str(getattr(inner, "reason", ""))


def _kind(error: Exception) -> str:
    """Return what went wrong, in words that quote neither the request nor the answer."""
    found = urllib3.exceptions
    if isinstance(error, found.TimeoutError | TimeoutError):
        return "the time for the call is over"
    if isinstance(error, found.SSLError | ssl.SSLError):
        return "no secure connection (TLS) was made"
    return "the connection broke"
