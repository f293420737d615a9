"""How a provider is reached: which addresses are called, what TLS checks, and that no call outlasts its time."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from pytest_socket import enable_socket, socket_allow_hosts

from backhaul.providers import Provider, ProviderDenied, ProviderDown, ProviderRejected, Raw, connection, open_provider

NAME = "api.acme.example"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
SECONDS = 0.8
"""The time of a call that is to end by it."""
AMPLE = 30.0
"""The time of a call that ends before, also on a machine that is busy."""
SLACK = 2.5
"""How much later a busy machine may notice that a call's time is over; a server that drips goes on for longer."""
Serve = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _sockets_are_closed() -> Iterator[None]:
    """Instead of the fixture of all unit tests: these talk to servers of their own on loopback."""
    enable_socket()
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    yield
    socket_allow_hosts(None)


class Server:
    """Serves one connection after the other as it is told, and keeps what it read of each request."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self.serve, self.tls = serve, tls
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self.left = threading.Event()
        if tls:
            tls.sni_callback = lambda _, name, __: self.names.append(name)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while True:
            plain, _ = self.listener.accept()
            if self.left.is_set():
                plain.close()
                return
            with plain, contextlib.suppress(OSError):  # the client may go away, or not like our certificate
                plain.settimeout(5)
                self._handle(self.tls.wrap_socket(plain, server_side=True) if self.tls else plain)

    def _handle(self, connection: socket.socket) -> None:
        with connection:
            request = connection.recv(65536)
            # Whoever closes a connection before it has read the whole request breaks it.
            while 0 < len(request) < min(_length(request), 65536) and (more := connection.recv(65536)):
                request += more
            self.requests.append(request)
            self.serve(connection)

    def close(self) -> None:
        self.left.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()


def _length(request: bytes) -> float:
    """Return the length of a whole request, given its beginning; infinity while its header is incomplete."""
    head, end, _ = request.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)content-length: *(\d+)", head)
    return len(head + end) + int(announced[1] if announced else 0) if end else math.inf


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(serve: Serve = lambda client: client.sendall(ANSWER), tls: ssl.SSLContext | None = None) -> Server:
        servers.append(Server(serve, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def resolving(monkeypatch) -> Callable[..., list[str]]:
    """Return a function that says which addresses each further look-up of a name finds."""

    def says(*answers: list[str]) -> list[str]:
        asked: list[str] = []

        def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
            family = {False: socket.AF_INET, True: socket.AF_INET6}
            return [(family[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return asked

    return says


@pytest.fixture
def certified(tmp_path, monkeypatch) -> Iterator[Callable[..., ssl.SSLContext]]:
    """Return a function that makes what a server under TLS needs, from an authority that we trust."""
    ours = trustme.CA()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    connection.open_pool.cache_clear()

    def context(name: str = NAME, authority: trustme.CA = ours) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(made)
        return made

    yield context
    connection.open_pool.cache_clear()


def call(url: str, *, is_local: bool = True, seconds: float = AMPLE, body: Any = "question") -> Any:
    provider = Provider(name="small", kind="http", base_url=url, timeout_seconds=seconds)
    adapter = open_provider(provider, secrets=None, models=None, is_local=is_local)  # type: ignore[arg-type]
    return adapter.call(Raw(body=body)).content


def down(url: str, *, seconds: float = SECONDS, **options: Any) -> ProviderDown:
    with pytest.raises(ProviderDown) as raised:
        call(url, seconds=seconds, **options)
    return raised.value


# Time.


def drip(data: bytes) -> Serve:
    def serve(client: socket.socket) -> None:
        for _ in range(40):
            client.sendall(data)
            time.sleep(0.1)

    return serve


def dripping_header(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(b"a")(client)


def dripping_chunk(client: socket.socket) -> None:
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    drip(b"1\r\n \r\n")(client)


SLOW = {
    "a status line": drip(b"H"),
    "a header": dripping_header,
    "many headers": lambda client: (client.sendall(b"HTTP/1.1 200 OK\r\n"), drip(b"X-Slow: a\r\n")(client)),
    "continue": drip(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": lambda client: (client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), drip(b" ")(client)),
    "chunks": dripping_chunk,
}


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("what", SLOW)
def test_a_provider_that_drips_ends_with_the_time(serving, certified, resolving, what, is_secure):
    server = serving(SLOW[what], certified() if is_secure else None)
    resolving(["127.0.0.1"])
    began = time.monotonic()
    error = down(f"https://{NAME}:{server.port}" if is_secure else f"http://127.0.0.1:{server.port}")
    assert time.monotonic() - began < SECONDS + SLACK
    assert "the time for the call is over" in str(error)
    assert error.may_be_paid


def test_a_provider_that_never_stops_to_say_continue_ends_with_the_time(serving):
    def forever(client: socket.socket) -> None:
        while True:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    began = time.monotonic()
    assert down(f"http://127.0.0.1:{serving(forever).port}").may_be_paid
    assert time.monotonic() - began < SECONDS + SLACK


def test_a_provider_that_says_continue_once_is_waited_for(serving):
    server = serving(lambda client: client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER))
    assert call(f"http://127.0.0.1:{server.port}") == {}


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain", "tls"])
def test_a_provider_that_reads_slowly_ends_with_the_time(serving, certified, resolving, is_secure):
    def slowly(client: socket.socket) -> None:
        for _ in range(40):
            client.recv(65536)
            time.sleep(0.1)

    server = serving(slowly, certified() if is_secure else None)
    resolving(["127.0.0.1"])
    url = f"https://{NAME}:{server.port}" if is_secure else f"http://127.0.0.1:{server.port}"
    began = time.monotonic()
    assert down(url, body="x" * 30_000_000).may_be_paid
    assert time.monotonic() - began < SECONDS + SLACK


def test_a_handshake_that_drips_ends_with_the_time_and_nothing_was_sent(serving):
    def handshake(client: socket.socket) -> None:
        client.sendall(b"\x16\x03\x03\x40\x00")  # the head of a record of 16 KB
        drip(b"\x02")(client)

    began = time.monotonic()
    assert not down(f"https://127.0.0.1:{serving(handshake).port}").may_be_paid
    assert time.monotonic() - began < SECONDS + SLACK


def test_a_resolver_that_hangs_ends_with_the_time_and_nothing_was_sent(monkeypatch):
    asked = threading.Event()

    def hang(*_: Any, **__: Any) -> list[Any]:
        assert asked.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = time.monotonic()
    error = down(f"https://{NAME}")
    assert time.monotonic() - began < SECONDS + SLACK
    assert (error.may_be_paid, "was not resolved in time" in str(error)) == (False, True)
    asked.set()


def test_addresses_that_do_not_answer_end_with_the_time_however_many_they_are(resolving, monkeypatch):
    def silent(sock: socket.socket, _: Any) -> None:
        time.sleep(sock.gettimeout() or 9)
        raise TimeoutError

    monkeypatch.setattr(socket.socket, "connect", silent)
    resolving([f"8.8.8.{number}" for number in range(1, 30)])
    began = time.monotonic()
    error = down(f"https://{NAME}")
    assert time.monotonic() - began < SECONDS + SLACK
    assert (error.may_be_paid, "no connection was made in time" in str(error)) == (False, True)


# TLS.


def test_a_certificate_is_checked_for_the_name_and_the_name_is_what_is_said(serving, certified, resolving):
    server = serving(tls=certified())
    resolving(["127.0.0.1"])
    assert call(f"https://{NAME}:{server.port}") == {}
    assert server.names == [NAME]
    assert f"Host: {NAME}:{server.port}".encode() in server.requests[0]


@pytest.mark.parametrize("fault", ["another's name", "an authority that nobody knows", "no tls", "reset"])
def test_a_failure_of_tls_is_no_call(serving, certified, resolving, fault):
    names = {"another's name": "other.example"}
    strangers = {"an authority that nobody knows": {"authority": trustme.CA()}}
    tls = None if fault in ("no tls", "reset") else certified(names.get(fault, NAME), **strangers.get(fault, {}))
    server = serving((lambda _: None) if fault == "reset" else (lambda client: client.sendall(ANSWER)), tls)
    resolving(["127.0.0.1"])
    error = down(f"https://{NAME}:{server.port}", seconds=AMPLE)
    assert not error.may_be_paid
    assert not any(b"POST" in each for each in server.requests)


def test_a_provider_that_wants_a_certificate_of_ours_did_not_take_the_call(serving, certified, resolving):
    tls = certified()
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=trustme.CA().cert_pem.bytes().decode())
    server = serving(tls=tls)
    wrap = tls.wrap_socket

    def patient(plain: socket.socket, **options: Any) -> ssl.SSLSocket:
        copy = plain.dup()  # only a socket that is still open tells why
        try:
            return wrap(plain, **options)
        except ssl.SSLError:
            copy.settimeout(2)
            while copy.recv(65536):
                pass
            raise
        finally:
            copy.close()

    tls.wrap_socket = patient  # type: ignore[method-assign]
    resolving(["127.0.0.1"])
    error = down(f"https://{NAME}:{server.port}", seconds=AMPLE)
    assert ("no secure connection" in str(error), error.may_be_paid) == (True, False)
    assert not server.requests


def test_a_connection_that_breaks_under_tls_after_the_request_may_have_been_paid(serving, certified, resolving):
    server = serving(lambda _: None, certified())
    resolving(["127.0.0.1"])
    assert down(f"https://{NAME}:{server.port}", seconds=AMPLE).may_be_paid


# Addresses.


def denied(url: str, **options: Any) -> str:
    with pytest.raises(ProviderDenied) as raised:
        call(url, **options)
    return str(raised.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104  # an address to be refused
        "224.0.0.1",
        "::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%lo",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
@pytest.mark.parametrize("others", [[], ["8.8.8.8"]], ids=["alone", "among others"])
def test_what_a_name_resolves_to_is_what_is_judged(resolving, monkeypatch, address, others):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    resolving([*others, address])
    sentence = denied(f"https://{NAME}", is_local=False)
    assert "private, loopback, link-local or reserved" in sentence
    assert address not in sentence


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "10.0.0.1"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_deployment_on_aws_calls_nothing_near(monkeypatch, scheme, host):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    assert "no provider is called" in denied(f"{scheme}://{host}:8000", is_local=False)


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254", "100.64.0.1", "::ffff:127.0.0.1"])
def test_the_local_cloud_calls_this_machine_but_nothing_forbidden(resolving, monkeypatch, address):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    resolving([address])
    assert "no provider is called" in denied(f"https://{NAME}")


def test_a_name_is_resolved_once_and_what_was_judged_is_what_is_called(serving, resolving):
    server = serving()
    asked = resolving(["127.0.0.1"], ["169.254.169.254"])
    assert call(f"http://localhost:{server.port}") == {}
    assert asked == ["localhost"]


def test_without_tls_nothing_leaves_this_machine_and_its_network(resolving, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it was called"))
    resolving(["8.8.8.8"])
    assert "must begin with https" in denied("http://localhost:8000")


def test_the_next_address_is_called_where_the_first_refuses(serving, resolving):
    server = serving()
    asked = resolving(["::1", "127.0.0.1"])
    assert call(f"http://localhost:{server.port}") == {}
    assert len(asked) == 1


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 64 + ".example"])
def test_a_name_that_nobody_knows_is_an_outage_and_nothing_was_sent(monkeypatch, name):
    real = socket.getaddrinfo

    def unknown(host: str, *rest: Any, **options: Any) -> Any:
        if host == "nobody.invalid":
            raise socket.gaierror(-2, "Name or service not known")
        return real(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = down(f"https://{name}")
    assert ("was not resolved" in str(error), error.may_be_paid) == (True, False)


def test_a_redirect_leads_to_no_other_address(serving):
    other = serving()
    redirect = f"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n\r\n"
    server = serving(lambda client: client.sendall(redirect.encode()))
    with pytest.raises(ProviderRejected, match="redirect"):
        call(f"http://127.0.0.1:{server.port}")
    assert not other.requests
