"""Ending a processor's code from outside: a record that takes too long, a job that was cancelled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType


class Reason(StrEnum):
    """Why a processor's code is ended."""

    TOO_SLOW = "too_slow"
    """The record has passed its time limit."""
    TIME_UP = "time_up"
    """The worker's own time is up."""
    STOP = "stop"
    """The job is to stop, or another worker holds the shard."""


class Interrupted(BaseException):
    """A processor's code was ended from outside; not an `Exception`, so that no processor catches it by mistake."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Interrupter:
    """Raises `Interrupted` in the main thread while it is inside `armed`, when another thread asks for it.

    A signal is the only thing that ends a sleep, a socket or a regular expression. Outside the main thread Python
    takes none, so nothing is interrupted there.
    """

    def __init__(self) -> None:
        self._armed = False
        self._reason: Reason | None = None
        self._is_main = threading.current_thread() is threading.main_thread()

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let what runs inside be interrupted."""
        if not self._is_main:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._raise)
        self._reason, self._armed = None, True
        try:
            yield
        finally:
            self._armed = False
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing interrupt what runs inside: a write of ours in the midst of a processor's code."""
        was, self._armed = self._armed, False
        try:
            yield
        finally:
            self._armed = was
        if was and self._reason is not None:
            raise Interrupted(self._reason)

    def interrupt(self, reason: Reason) -> None:
        """Ask for it, from another thread; asking again is harmless, and needed where a processor caught it."""
        self._reason = reason
        main = threading.main_thread().ident
        if self._is_main and self._armed and main is not None:
            signal.pthread_kill(main, signal.SIGALRM)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if self._armed and self._reason is not None:
            raise Interrupted(self._reason)
