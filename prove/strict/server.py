"""The strict provider's HTTP side: an API in OpenAI's form, and `/control`."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prove.strict.answers import content_hash
from prove.strict.state import OUTAGES, Counts, Given, Outage, ProviderState
from prove.strict.work import Bad, Paid, read_call, served

_MAX_HANG = 600.0
_PATIENCE = 300.0


class StrictServer(ThreadingHTTPServer):
    """Serves until `shutdown`; may refuse connections for a time in between."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, state: ProviderState, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.state = state
        self._open: set[socket.socket] = set()
        self._pause: float | None = None

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def run(self) -> None:
        """Serve, with pauses, until `shutdown`."""
        while True:
            self._pause = None
            self.serve_forever(poll_interval=0.02)
            if self._pause is None:
                return
            self._stand_aside(self._pause)

    def refuse(self, seconds: float) -> None:
        """Refuse every connection for `seconds`, beginning in a moment."""
        self._pause = seconds
        threading.Thread(target=self.shutdown, daemon=True).start()

    def _stand_aside(self, seconds: float) -> None:
        """Keep the port bound without listening: the system refuses every connection."""
        self.socket.close()
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        """Print nothing about clients that closed their connections."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: in two, the client's delayed acknowledgement costs 40 ms
    disable_nagle_algorithm = True
    timeout = _PATIENCE
    server: StrictServer

    def do_GET(self) -> None:
        """Answer `/control` with the counts."""
        if self.path == "/control":
            self._send(200, self.server.state.shown())
        else:
            self._send(404, {"error": {"message": "Not found.", "code": "not_found"}})

    def do_POST(self) -> None:
        """Carry out a command to `/control`, or answer a call."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/control":
            self._control(body)
            return
        try:
            asked = json.loads(body)
            content = content_hash(self.path, asked)
        except ValueError:
            self._bad(Bad(400, "invalid_request_error", "The body is not JSON."))
            return
        self.server.state.called(content)
        outage = self.server.state.struck()
        if outage and outage.kind in ("unavailable", "hang", "drop"):
            self._fail(outage)
            return
        try:
            self._answer(content, asked, outage.kind if outage else "")
        except Bad as bad:
            self._bad(bad)

    def _answer(self, content: str, body: Any, outage: str) -> None:
        state, settings = self.server.state, self.server.state.settings
        self._check_secret()
        key = self.headers.get(settings.idempotency_header) if settings.idempotency_header else None
        first = self._first_answer(key, content)
        if first is not None:
            state.count("repeated")
            self._send_bytes(200, first)
            return
        try:
            call = read_call(self.path, body, settings)
            wait = state.admit(call.tokens_in + call.tokens_out)
        except Bad:
            self._release(key)
            raise
        if wait is not None:
            self._release(key)
            self._refuse(wait)
            return
        state.pay(content, call.tokens_in, call.tokens_out)
        self._pay_out(key, content, call, outage)

    def _pay_out(self, key: str | None, content: str, call: Paid, outage: str) -> None:
        state = self.server.state
        answer = json.dumps(call.answer, ensure_ascii=False).encode()
        time.sleep(state.latency())
        if key is not None:
            with state.lock:
                state.keys[key] = Given(content, answer)
        if outage == "drop_paid":
            state.count("lost")
            self.close_connection = True
            return
        state.count("answered")
        self._send_bytes(200, served(call, answer, outage))

    def _first_answer(self, key: str | None, content: str) -> bytes | None:
        """Return the answer to the key's first call; if there was none, reserve the key for this call.

        Raises `Bad` for a key of another request, or of a call that is still at work.
        """
        if key is None:
            return None
        with self.server.state.lock:
            mine = Given(content)
            given = self.server.state.keys.setdefault(key, mine)
            if given is mine:
                return None
            if given.content != content:
                raise Bad(422, "idempotency_error", "This key came with another request.")
            if given.answer is None:
                self.server.state.counts.totals["conflicts"] += 1
                raise Bad(409, "idempotency_in_progress", "The first call with this key is still at work.")
            return given.answer

    def _release(self, key: str | None) -> None:
        if key is not None:
            with self.server.state.lock:
                self.server.state.keys.pop(key, None)

    def _check_secret(self) -> None:
        secret = self.server.state.settings.secret
        given = [self.headers.get("Authorization", "").removeprefix("Bearer ")]
        given += [self.headers.get(name, "") for name in ("api-key", "x-api-key")]
        if secret and secret not in given:
            raise Bad(401, "invalid_api_key", f"Incorrect API key provided: {max(given)}.")

    def _refuse(self, wait: float) -> None:
        self.server.state.count("refused")
        headers = {
            "seconds": {"Retry-After": f"{wait:.3f}"},
            "ms": {"retry-after-ms": f"{wait * 1000:.0f}"},
            "date": {"Retry-After": formatdate(time.time() + wait + 1, usegmt=True)},
        }.get(self.server.state.settings.retry_after, {})
        error = {"error": {"message": "Rate limit reached.", "type": "requests", "code": "rate_limit_exceeded"}}
        self._send(429, error, headers)

    def _fail(self, outage: Outage) -> None:
        self.server.state.count("failed")
        if outage.kind == "unavailable":
            headers = {} if outage.retry_after is None else {"Retry-After": str(outage.retry_after)}
            self._send(503, {"error": {"message": "Overloaded.", "type": "server_error"}}, headers)
            return
        if outage.kind == "hang":
            time.sleep(min(max(outage.until - time.monotonic(), 0), _MAX_HANG))
        self.close_connection = True

    def _bad(self, bad: Bad) -> None:
        if bad.status != 409:
            self.server.state.count("denied" if bad.status == 401 else "rejected")
        self._send(bad.status, {"error": {"message": str(bad), "type": "invalid_request_error", "code": bad.code}})

    def _control(self, body: bytes) -> None:
        state = self.server.state
        try:
            command = json.loads(body)
            unknown = command.keys() - {"outage", "seconds", "share", "retry_after", "reset", "settings"}
            if unknown or command.get("outage") not in (None, *OUTAGES):
                raise ValueError(f"Use outage ({', '.join(OUTAGES)}), seconds, share, retry_after, reset, settings.")
            with state.lock:
                if command.get("reset"):
                    state.counts, state.keys = Counts(), {}
                if "settings" in command:
                    state.set(state.settings.changed(command["settings"]))
                if "outage" in command:
                    state.outage = _outage_of(command)
        except (ValueError, AttributeError, TypeError) as error:
            self._send(400, {"error": {"message": str(error)}})
            return
        self._send(200, {"ok": True})
        if command.get("outage") == "refused":
            self.wfile.flush()
            self.server.refuse(float(command.get("seconds", 1)))

    def _send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(value).encode(), headers)

    def _send_bytes(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **self.server.state.left(), **(headers or {})}.items():
            if not (name.startswith("x-ratelimit") and self.server.state.settings.retry_after == "none"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _outage_of(command: dict[str, Any]) -> Outage | None:
    if command["outage"] in (None, "refused"):
        return None
    until = time.monotonic() + float(command.get("seconds", 1))
    return Outage(command["outage"], until, float(command.get("share", 1)), command.get("retry_after"))
