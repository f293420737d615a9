"""The time limit for everything that a caller's text can make slow while the caller waits for the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from backhaul.model.clock import Clock
from backhaul.model.errors import CallerError, InvalidOption
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.worker.interrupter import Interrupter

T = TypeVar("T")

MAX_REQUEST_SECONDS = 2.0
"""A request's option checks and its look at a sample may take this long together."""
_SHORTEST = 0.001


def slow_options() -> InvalidOption:
    """Return the refusal of options whose check takes longer than that."""
    return InvalidOption(
        f"To check the options takes longer than {MAX_REQUEST_SECONDS:.0f} s. "
        "Simplify the regular expressions, the JSON Schema or the template in them."
    )


class TimeLimit:
    """Two seconds that all slow parts of one request share; they run from the making of this object.

    The limit is a signal, because the engine of regular expressions looks for signals while it holds the interpreter,
    and lets no other thread run. It therefore works in the main thread only, which is where Lambda calls a handler.
    Nothing is forked, so that a request which is quick pays nothing.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end = clock.monotonic() + MAX_REQUEST_SECONDS

    def run(self, call: Callable[[], T], refusal: CallerError) -> T:
        """Return what `call` returns; raises `refusal` instead when the time is up before that."""
        interrupter = Interrupter(lambda: InterruptReason.TOO_SLOW if self._clock.monotonic() >= self._end else None)
        try:
            with interrupter.installed():
                interrupter.put_off(max(self._end - self._clock.monotonic(), _SHORTEST))
                interrupter.arm()
                try:
                    result = call()
                finally:
                    interrupter.disarm()
                interrupter.again()  # the code inside may have caught it
                return result
        except Interrupted:
            raise refusal from None
