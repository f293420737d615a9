"""A fake provider of paid answers: an HTTP server in a thread, which counts what it is asked and by whom."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request of a processor: what for, from which process, and when."""

    what: tuple[str, ...]
    pid: int
    at: float
    answer: str


@dataclass
class Provider:
    """Answers `/<job>/<kind>/<what ...>?<pid>` with a text that no other request gets.

    Of the kind `begin` are the notes of a processor that it begins something, of the kind `step` the calls that cost.
    """

    url: str = ""
    _asked: dict[str, list[Asked]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, job: str) -> str:
        """Return the URL that a job's processor is to ask; `job` is any word."""
        return f"{self.url}/{job}"

    def begun(self, job: str) -> list[Asked]:
        """Return what the job's processors have begun, in order."""
        return [each for each in self._of(job) if each.what[0] == "begin"]

    def steps(self, job: str) -> list[Asked]:
        """Return the calls that cost, in order."""
        return [each for each in self._of(job) if each.what[0] == "step"]

    def again(self, job: str) -> int:
        """Return how many records were begun that had been begun before."""
        times = Counter(each.what for each in self.begun(job))
        return sum(times.values()) - len(times)

    def answer(self, path: str) -> str:
        """Take note of a request and return its answer."""
        path, _, pid = path.partition("?")
        job, *what = path.strip("/").split("/")
        with self._lock:
            asked = self._asked.setdefault(job, [])
            answer = f"{'.'.join(what[1:])}.{len(asked)}"
            asked.append(Asked(tuple(what), int(pid), time.monotonic(), answer))
        return answer

    def _of(self, job: str) -> list[Asked]:
        with self._lock:
            return list(self._asked.get(job, ()))


class Server(ThreadingHTTPServer):
    """Says nothing of clients that were killed before they had their answer."""

    def handle_error(self, *_: Any) -> None:
        """Do nothing."""


@contextmanager
def provider() -> Iterator[Provider]:
    """Run a provider on loopback as long as this lasts."""
    counting = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = counting.answer(self.path).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    counting.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    thread.start()
    try:
        yield counting
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
