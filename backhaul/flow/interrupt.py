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
        self._held = False
        self._reason: Reason | None = None
        self._main: int | None = None
        self.fired = False
        """Whether the code inside was interrupted: what it makes afterwards, having caught that, is not to be used."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signal as long as this lasts: until nobody can send it any more."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._main = threading.get_ident()
        before = signal.signal(signal.SIGALRM, self._raise)
        try:
            yield
        finally:
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let what runs inside be interrupted."""
        self._reason, self.fired, self._armed = None, False, True
        try:
            yield
        finally:
            self._armed = False

    def hold(self) -> None:
        """Let nothing interrupt what follows, a write of ours in the midst of a processor's code, until `release`."""
        self._held = True

    def release(self) -> None:
        """Let it be interrupted again; raises what was asked for meanwhile."""
        self._held = False
        if self._armed and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)

    def interrupt(self, reason: Reason) -> None:
        """Ask for it, from another thread; asking again is harmless, and needed where a processor caught it."""
        self._reason = reason
        if self._main is not None and self._armed:
            signal.pthread_kill(self._main, signal.SIGALRM)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if self._armed and not self._held and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)
