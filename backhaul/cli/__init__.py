"""The command line: results on stdout, everything for people on stderr, exit codes that scripts can trust."""

from __future__ import annotations

import sys

from backhaul.cli.signals import INTERRUPTED, TERMINATED, Terminated, raise_on_sigterm


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        raise_on_sigterm()
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
