"""`python -m prove.strict`: runs the strict provider until a signal, or the end of stdin, ends it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from dataclasses import fields

from prove.strict.server import StrictServer
from prove.strict.state import ProviderState, Settings


def main() -> None:
    """Print the URL and serve."""
    parser = argparse.ArgumentParser(prog="python -m prove.strict", description="Run a fake provider without mercy.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin ends, as with a parent that dies")
    for each in fields(Settings):
        kind = float if each.name in ("latency_ms", "jitter_ms", "invalid_share") else type(each.default)
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default)
    given = vars(parser.parse_args())
    port, until_eof = given.pop("port"), given.pop("until_eof")
    server = StrictServer(ProviderState(Settings(**given)), port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    if until_eof:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.stdout.write(f"{server.url}\n")
    sys.stdout.flush()
    server.run()


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
