"""Unit tests have no network: a test that opens a connection fails."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

TALK_TO_THEMSELVES = {
    "test_cli",
    "test_cli_budget",
    "test_cli_control",
    "test_cli_estimate",
    "test_cli_foreign_folder",
    "test_cli_policy",
    "test_cli_safe",
    "test_client",
    "test_deploy",
    "test_lambda_quota",
    "test_local_cloud",
    "test_operate",
}
"""Modules that start a server of their own on loopback, and reach nothing else."""


@pytest.fixture(autouse=True)
def _sockets_are_closed(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.module.__name__.rpartition(".")[2] in TALK_TO_THEMSELVES:
        socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
    else:
        disable_socket()
    yield
    socket_allow_hosts(None)
    enable_socket()


@dataclass(frozen=True)
class Request:
    """A request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class CannedAnswer:
    """What the server says; `cut` leaves out the last bytes, as a broken connection does, and None all of them."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = 0

    @classmethod
    def of(cls, value: Any, status: int = 200) -> CannedAnswer:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


@dataclass
class Server:
    """An HTTP server on loopback that answers what a test tells it to, and remembers what it was asked."""

    url: str
    requests: list[Request] = field(default_factory=list)
    routes: dict[tuple[str, str], Callable[[Request], CannedAnswer]] = field(default_factory=dict)

    def on(self, method: str, path: str, *answers: CannedAnswer) -> None:
        """Give these answers in turn, the last one for ever."""
        turns = list(answers)
        self.routes[method, path] = lambda _: turns.pop(0) if len(turns) > 1 else turns[0]

    def answer(self, request: Request) -> CannedAnswer:
        self.requests.append(request)
        route = self.routes.get((request.method, request.path))
        return route(request) if route else CannedAnswer.of({"message": "Not Found"}, 404)

    def asked(self, method: str, path: str) -> list[Request]:
        return [each for each in self.requests if (each.method, each.path) == (method, path)]


@pytest.fixture
def server() -> Iterator[Server]:
    known: list[Server] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = known[0].answer(Request(self.command, self.path, headers, body))
            if answer.cut is None:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: len(answer.body) - answer.cut])

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.append(Server(f"http://127.0.0.1:{listening.server_port}"))
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known[0]
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def answer() -> type[CannedAnswer]:
    return CannedAnswer


def view(state: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    """A job as the API tells it."""
    counts = {
        "shards": 1, "chunks": 4, "chunks_done": 1, "chunks_failed": 0, "records": 12, "bytes_done": 5, "attempts": 1,
        "retries": 0, "rework": 0, "tallies": {},
    }  # fmt: skip
    return {
        "job_id": "01kb3x5s0qf8m2v9d7c6t4h1zn",
        "state": state,
        "progress": 1.0 if state == "SUCCEEDED" else 0.25,
        "cause": None,
        "processor": "text-stats",
        "options": {"top": 20, "chunk_bytes": None},
        "file_name": "a.txt",
        "size": 5,
        "counts": counts,
        "created_at": "2026-11-22T12:00:00Z",
        "updated_at": "2026-11-22T12:00:01.5Z",
        "started_at": None,
        "ended_at": None,
        "upload_until": None,
        "output_size": None,
        "run": 1,
        "policy": {},
        "deadline_at": None,
        "stopping": None,
        "stalled_shards": 0,
    } | changes


@pytest.fixture(name="view")
def _view() -> Callable[..., dict[str, Any]]:
    return view


@pytest.fixture
def takes_uploads(server: Server) -> Server:
    """A server that creates a job for whoever asks, and takes its file."""
    form = {
        "url": f"{server.url}/bucket",
        "fields": {"key": "t/T1/j/x/input/data", "policy": "e30=", "x-amz-date": "d"},
    }
    server.on("POST", "/jobs", CannedAnswer.of({"job": view("AWAITING_UPLOAD"), "upload": form}, 202))
    server.on("POST", "/bucket", CannedAnswer(204))
    return server


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> None:
    """A folder of its own, and a deployment that is the server of this test."""
    monkeypatch.chdir(tmp_path)
    for name in ("BACKHAUL_STACK", "AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "BACKHAUL_API_URL": server.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    return path
