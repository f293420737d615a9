"""Ending a processor's code from outside: a record that takes too long, a job that was cancelled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType

STARVED_SECONDS = 1.0
"""When no other thread has run for so long, the main thread looks for itself."""


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
    """Raises `Interrupted` in the main thread while it is inside `armed`: when another thread asks for it, or `look`.

    A signal is the only thing that ends a sleep, a socket or a regular expression. While a regular expression is at
    work no other thread runs, so none can ask: a timer that is not put off then sends the signal, and `look` tells
    whether there is a reason. Outside the main thread Python takes no signals, so nothing is interrupted there.
    """

    def __init__(self, look: Callable[[], Reason | None] = lambda: None) -> None:
        self._look = look
        self._armed = False
        self._timed = False
        self._timer = threading.Lock()
        self._reason: Reason | None = None
        self._is_main = threading.current_thread() is threading.main_thread()

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let what runs inside be interrupted."""
        if not self._is_main:
            yield
            return
        before = signal.signal(signal.SIGALRM, self._raise)
        self._reason, self._armed, self._timed = None, True, True
        self.put_off()
        try:
            yield
        finally:
            try:
                self._disarm()
            except Interrupted:
                self._disarm()
                raise
            finally:
                signal.signal(signal.SIGALRM, before)

    def put_off(self) -> None:
        """Put the timer off, from another thread: it only goes off once that thread has not run for a while."""
        with self._timer:
            if self._timed:
                signal.setitimer(signal.ITIMER_REAL, STARVED_SECONDS, STARVED_SECONDS)

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

    def _disarm(self) -> None:
        self._armed = False
        with self._timer:
            self._timed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if self._armed and self._reason is None:
            self._reason = self._look()
        if self._armed and self._reason is not None:
            raise Interrupted(self._reason)
