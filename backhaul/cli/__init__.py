"""The command line: results on stdout, everything for people on stderr, exit codes that scripts can trust."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from backhaul.cli.signals import INTERRUPTED, TERMINATED


class Terminated(BaseException):
    """SIGTERM came: as an exception, so that what is half-written is cleared away."""


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        from backhaul.cli.app import run  # late: Ctrl-C may come while everything is imported

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Terminated:
        code = TERMINATED
    except Exception as error:
        from backhaul.cli.screen import say_traceback

        say_traceback(error)
        code = 1
    sys.exit(code)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
