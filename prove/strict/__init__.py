"""A fake provider that is strict about its limits: an API in OpenAI's form, in a process of its own.

`python -m prove.strict --port 0 --requests-per-minute 600` prints its URL. The provider keeps its limits exactly. It
gives equal requests equal answers. It recognises a call that it has answered by its idempotency key, and does not
charge it again. It counts everything:

    GET  /control    the counts: calls, answered, paid, repeated (by key), refused (429), conflicts (409), denied
                     (401), rejected (other 4xx), failed (in an outage), lost (paid, never answered), tokens,
                     by_content, worst_second
    POST /control    {"outage": kind, "seconds": 5, "share": 0.5}, {"reset": true}, {"settings": {...}}

Outages: `unavailable` (503), `refused` (no connection; `/control` neither, for that time), `hang`, `drop` (the
connection ends, nothing is paid), `drop_paid` (it ends after the call was paid), `malformed` (paid, half of the JSON),
`wrong_usage` (paid, with token counts that cannot be true). A request whose path ends neither in `/chat/completions`
nor in `/embeddings` is echoed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_PATIENCE = 10


@dataclass(frozen=True)
class Strict:
    """A running strict provider."""

    url: str

    def counts(self) -> dict[str, Any]:
        """Return the provider's counts since the last reset."""
        with urllib.request.urlopen(f"{self.url}/control", timeout=_PATIENCE) as answer:  # noqa: S310  # our own URL
            found: dict[str, Any] = json.load(answer)
        return found

    def control(self, **command: Any) -> None:
        """Begin or end an outage, reset the counts, or change settings; the fields are those of `/control`."""
        request = urllib.request.Request(f"{self.url}/control", json.dumps(command).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=_PATIENCE):  # noqa: S310
            pass

    def reset(self, **settings: Any) -> None:
        """Clear all counts, keys and outages, and change these settings."""
        self.control(reset=True, outage=None, settings=settings)


@contextmanager
def strict(**settings: Any) -> Iterator[Strict]:
    """Run a strict provider on loopback until the block ends; `settings` are the fields of `state.Settings`."""
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "prove.strict", "--port", "0", "--until-eof", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise RuntimeError("The strict provider did not start.")
            yield Strict(url)
        finally:
            process.terminate()
