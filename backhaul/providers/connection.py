"""One HTTP call: JSON by POST, once, to one host, in a bounded time, for an answer of a bounded size."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import urllib3

from backhaul.providers.errors import ProviderDown, ProviderRejected, UnreadableAnswer

MAX_ANSWER = 32 * 1024 * 1024
CONNECT_SECONDS = 5.0
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


def post(provider: str, url: str, body: Any, headers: Mapping[str, str], timeout: float) -> Reply:
    """Post JSON and return the answer, whatever its status; raises `ProviderDown` if there is none in time.

    The time counts from here to the last byte. Redirects are not followed: a key must not go where nobody sent it.
    """
    end = time.monotonic() + timeout
    try:
        response = open_pool().request(
            "POST",
            url,
            body=msgspec.json.encode(body),
            # Compressed, a small answer could be a large one.
            headers={"Content-Type": "application/json", "Accept": "application/json", **_PLAIN, **headers},
            timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, timeout), read=timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            return Reply(response.status, _lower(response.headers), _body_of(response, provider, end))
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        # Without a cause: some of these quote what came, or what went.
        raise ProviderDown(
            f"{provider} gave no whole answer: {_kind(error)}.", may_be_paid=not _is_unsent(error)
        ) from None


_PLAIN = {"Accept-Encoding": "identity", "User-Agent": "backhaul"}


@cache
def open_pool() -> urllib3.PoolManager:
    """Return this process's connections; it takes a tenth of a second to make the pool."""
    # Said in full: the urllib3 1.26 that a Lambda runtime may have verifies nothing by default.
    return urllib3.PoolManager(
        num_pools=32,
        maxsize=_CONNECTIONS,
        retries=False,
        ssl_context=ssl.create_default_context(),
        cert_reqs="CERT_REQUIRED",
    )


def _body_of(response: urllib3.BaseHTTPResponse, provider: str, end: float) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise UnreadableAnswer(f"{provider} compressed its answer, which nobody asked for.")
    read = getattr(response, "read1", response.read)  # returns what has come; urllib3 1.26 has only the other
    pieces: list[bytes] = []
    size = 0
    while True:
        # Each read may take what is left, and no more: the connection's own limit begins anew with every byte.
        if sock := getattr(response.connection, "sock", None):
            sock.settimeout(max(end - time.monotonic(), 0.01))
        if not (piece := read(_PIECE)):
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            raise ProviderRejected(
                f"{provider} answered with more than {MAX_ANSWER // 1024**2} MB; ask for less.", may_be_paid=True
            )
        if time.monotonic() > end:
            raise ProviderDown(f"{provider} did not end its answer in time.", may_be_paid=True)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _is_unsent(error: Exception) -> bool:
    """Return whether there was no connection on which the request could have gone."""
    found = urllib3.exceptions
    return isinstance(error, found.NewConnectionError | found.ConnectTimeoutError | ConnectionRefusedError)


def _kind(error: Exception) -> str:
    """Return what went wrong, in words that quote nothing."""
    found = urllib3.exceptions
    if isinstance(error, found.NewConnectionError | ConnectionRefusedError):  # a timeout too, in the tree of urllib3
        unresolved = type(error).__name__ == "NameResolutionError"  # which 1.26 does not have
        return "its name is not resolved" if unresolved else "the connection was refused"
    if isinstance(error, found.ConnectTimeoutError):
        return "no connection in time"
    if isinstance(error, found.TimeoutError | TimeoutError):
        return "out of time"
    if isinstance(error, found.SSLError | ssl.SSLError):
        return "no secure connection"
    return "the connection broke"
