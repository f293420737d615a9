"""SIGTERM as an exception that also ends a call that blocks, and the exit codes of a command that a signal ended."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
_AGAIN_SECONDS = 0.1


class Terminated(BaseException):
    """SIGTERM came: as an exception, so that what is half-written is cleared away."""


def raise_on_sigterm() -> None:
    """Let SIGTERM raise `Terminated` in the main thread, which calls this; also while that thread waits or sleeps.

    Python's handler runs between two steps of the main thread. A signal that comes just before a call that blocks, or
    that the system hands to another thread, would wait until that call is over. So a thread hears of each signal at
    once, and sends SIGTERM to the main thread until the handler has run.
    """
    has_run = threading.Event()
    main = threading.get_ident()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        if not has_run.is_set():  # what clears away is not disturbed by a second one
            has_run.set()
            raise Terminated

    def insist() -> None:
        while signal.SIGTERM not in os.read(reading, 64):
            pass
        while not has_run.wait(_AGAIN_SECONDS):
            signal.pthread_kill(main, signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminate)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=insist, name="signals", daemon=True).start()
