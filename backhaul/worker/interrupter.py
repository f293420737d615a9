"""Ends a processor's code from outside: for a record that takes too long, or a job that was cancelled."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from backhaul.model.interruption import Interrupted, InterruptReason

STARVED_SECONDS = 1.0
"""If no other thread has run for so long, the timer's signal makes the main thread itself look for a reason."""


class Interrupter:
    """Raises `Interrupted` in the main thread between `arm` and `disarm`, if another thread or `look` gives a reason.

    Only a signal ends a sleep, a socket's read or a regular expression. Usually another thread sends the signal, and
    restarts the timer as long as it runs. While a regular expression is at work, no other thread runs. Then the timer
    fires and sends the signal, and the main thread asks `look` for the reason, which may be None. Python handles
    signals in the main thread only, so code in other threads is never interrupted.
    """

    def __init__(self, look: Callable[[], InterruptReason | None] = lambda: None) -> None:
        self._look = look
        self._armed = False
        self._blocked = False
        self._reason: InterruptReason | None = None
        self._main: int | None = None
        self.fired = False
        """Whether the code was interrupted; if it caught that, its further results must not be used."""

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signal until the block ends; by then nothing may send it any more."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._main = threading.get_ident()
        before = signal.signal(signal.SIGALRM, self._raise)
        self.restart_timer()
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def restart_timer(self, seconds: float = STARVED_SECONDS) -> None:
        """Start the timer anew: it fires once nobody has called this for `seconds`."""
        if self._main is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds, STARVED_SECONDS)

    def arm(self) -> None:
        """Allow interruption of the code that follows, until `disarm`."""
        self._reason, self.fired, self._armed = None, False, True

    def disarm(self) -> None:
        """Forbid interruption from now on."""
        self._armed = False

    def reraise(self) -> None:
        """Raise `Interrupted` once more if the code was interrupted: the processor may have caught it."""
        if self.fired:
            raise Interrupted(self._reason or InterruptReason.TOO_SLOW)

    def block(self) -> None:
        """Delay interruption until `unblock`: the worker's own writes run inside the processor's code, and must end."""
        self._blocked = True

    def unblock(self) -> None:
        """Allow interruption again; raises `Interrupted` if one was asked for meanwhile."""
        self._blocked = False
        if self._armed and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)

    def interrupt(self, reason: InterruptReason) -> None:
        """Interrupt the main thread from another one.

        The caller may repeat this, and must repeat it if the processor caught the exception.
        """
        self._reason = reason
        if self._main is not None and self._armed:
            signal.pthread_kill(self._main, signal.SIGALRM)

    def _raise(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._armed:
            return
        if self._reason is None:
            self._reason = self._look()
        if not self._blocked and self._reason is not None:
            self.fired = True
            raise Interrupted(self._reason)
