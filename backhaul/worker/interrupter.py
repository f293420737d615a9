"""Ending a processor's code from outside: a record that takes too long, a job that was cancelled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from backhaul.model.interruption import Interrupted, InterruptReason

STARVED_SECONDS = 1.0
"""When no other thread has run for so long, the main thread looks for itself."""


class Interrupter:
    """Raises `Interrupted` in the main thread between `arm` and `disarm`: when another thread asks for it, or `look`.

    A signal is the only thing that ends a sleep, a socket or a regular expression. While a regular expression is at
    work no other thread runs, so none can ask: a timer that is not put off then sends the signal, and `look` tells
    whether there is a reason. Outside the main thread Python takes no signals, so nothing is interrupted there.
    """

    def __init__(self, look: Callable[[], InterruptReason | None] = lambda: None) -> None:
        self._look = look
        self._armed = False
        self._held = False
        self._reason: InterruptReason | None = None
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
        self.put_off()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def put_off(self, seconds: float = STARVED_SECONDS) -> None:
        """Put the timer off: it only goes off once the thread that does this has not run for so long."""
        if self._main is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds, STARVED_SECONDS)

    def arm(self) -> None:
        """Let what follows be interrupted, until `disarm`."""
        self._reason, self.fired, self._armed = None, False, True

    def disarm(self) -> None:
        """Let nothing be interrupted any more."""
        self._armed = False

    def again(self) -> None:
        """Raise once more what the code inside was interrupted for and has caught, if it was."""
        if self.fired:
            raise Interrupted(self._reason or InterruptReason.TOO_SLOW)

    def hold(self) -> None:
        """Let nothing interrupt what follows, a write of ours in the midst of a processor's code, until `release`."""
        self._held = True

    def release(self) -> None:
        """Let it be interrupted again; raises what was asked for meanwhile."""
        self._held = False
        if self._armed and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)

    def interrupt(self, reason: InterruptReason) -> None:
        """Ask for it, from another thread; asking again is harmless, and needed where a processor caught it."""
        self._reason = reason
        if self._main is not None and self._armed:
            signal.pthread_kill(self._main, signal.SIGALRM)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self._reason is None:
            self._reason = self._look()
        if not self._held and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)
