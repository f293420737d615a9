"""Connections to checked addresses, on which every operation ends when the time for the call is over.

A name is resolved once. All of its addresses are checked, and the connection goes to one of them, so that the name
cannot change in between. The certificate is verified for the name, and the request's Host header holds the name.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from backhaul.providers.address import Place, place_of

CONNECT_SECONDS = 5.0
"""How long one address of a provider may take to accept a connection."""
Found = list[tuple[Any, Any, int, str, Any]]
"""Addresses as `socket.getaddrinfo` returns them."""


class Unreached(Exception):
    """No connection was made, so nothing was sent; the message says why and quotes neither request nor answer."""


class Forbidden(Exception):
    """A provider's name leads to a forbidden address."""


@dataclass
class Call:
    """The call that a thread is making; `end` is a time of the monotonic clock, in seconds."""

    end: float
    is_local: bool
    """Whether the provider may be on this machine or in its private network."""
    is_sent: bool = False
    """Whether any byte of the request may have been sent. Until then nothing can be charged."""

    def left(self) -> float:
        """Return how many seconds the call still has; raises `TimeoutError` if none."""
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the time for the call is over")
        return seconds


_call: ContextVar[Call] = ContextVar("call")


@contextmanager
def bounded(seconds: float, *, is_local: bool) -> Iterator[Call]:
    """Limit this thread's operations on connections of this module to so many seconds in all, inside the block."""
    call = Call(time.monotonic() + seconds, is_local)
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)


class _Bounded(socket.socket):
    """A socket on which each read and write may take only the time that the call has left.

    A socket's own timeout starts again with every byte, so a slow server could hold a call for ever.
    """

    def recv_into(self, *args: Any, **options: Any) -> int:
        self.settimeout(_call.get().left())
        return super().recv_into(*args, **options)

    def send(self, *args: Any, **options: Any) -> int:
        self._begin_to_send()
        return super().send(*args, **options)

    def sendall(self, *args: Any, **options: Any) -> None:
        self._begin_to_send()
        super().sendall(*args, **options)

    def _begin_to_send(self) -> None:
        call = _call.get()
        self.settimeout(call.left())
        call.is_sent = True


class _BoundedSSL(_Bounded, ssl.SSLSocket):
    """The same with TLS. The handshake has one timeout as a whole, and sends nothing of the request."""


def tls_context() -> ssl.SSLContext:
    """Return a TLS context that verifies certificates and makes bounded sockets."""
    context = ssl.create_default_context()
    context.sslsocket_class = _BoundedSSL
    return context


class PlainConnection(HTTPConnection):
    """HTTP without TLS, which is allowed only on this machine and in its private network."""

    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port or 80, is_plain=True)


class SecureConnection(HTTPSConnection):
    """HTTP over TLS."""

    def _new_conn(self) -> socket.socket:
        return _connect(self.host, self.port or 443, is_plain=False)


def _connect(host: str, port: int, *, is_plain: bool) -> socket.socket:
    call = _call.get()
    found = _resolved(host.strip("[]"), port, call)
    for *_, where in found:
        _judge(where[0], is_local=call.is_local, is_plain=is_plain)
    failure = "the name of its host was not resolved"
    for family, kind, protocol, _, where in found:
        sock = _Bounded(family, kind, protocol)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(min(CONNECT_SECONDS, call.left()))
            sock.connect(where)
            sock.settimeout(call.left())  # for the handshake
        except OSError as error:
            sock.close()
            failure = (
                "no connection was made in time" if isinstance(error, TimeoutError) else "the connection was refused"
            )
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise Unreached(failure)


def _resolved(host: str, port: int, call: Call) -> Found:
    """Return the addresses of a host. A thread of its own asks, because the system's resolver has no timeout."""
    found: Future[Found] = Future()

    def resolve() -> None:
        try:
            found.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        return found.result(call.left())
    except TimeoutError:
        raise Unreached("the name of its host was not resolved in time") from None
    except (OSError, UnicodeError):  # UnicodeError: the name is too long
        raise Unreached("the name of its host was not resolved") from None


def _judge(address: str, *, is_local: bool, is_plain: bool) -> None:
    place = place_of(ip_address(address))
    if place is Place.FORBIDDEN or (place is Place.NEAR and not is_local):
        raise Forbidden(
            "base_url leads to a private, loopback, link-local or reserved address, where no provider is called."
        )
    if is_plain and place is not Place.NEAR:
        raise Forbidden("base_url begins with http and leads to a public address: it must begin with https.")
