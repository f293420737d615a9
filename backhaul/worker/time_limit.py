"""The time limit of a request, for all work that the caller's text can make slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from backhaul.model.clock import Clock
from backhaul.model.errors import CallerError, InvalidOption
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.worker.interrupter import Interrupter

T = TypeVar("T")

MAX_REQUEST_SECONDS = 2.0
"""How long a request's check of options and its look at a sample may take together."""
_SHORTEST = 0.001


def slow_options() -> InvalidOption:
    """Return the refusal of options whose check takes longer than `MAX_REQUEST_SECONDS`."""
    return InvalidOption(
        f"To check the options takes longer than {MAX_REQUEST_SECONDS:.0f} s. "
        "Simplify the regular expressions, the JSON Schema or the template in them."
    )


class TimeLimit:
    """Two seconds that all slow parts of one request share, from the moment this object is made.

    A signal ends the call, because the regular expression engine checks for signals but lets no other thread run. So
    the limit works in the main thread only, where Lambda calls a handler. It forks no process, so a quick request pays
    nothing for it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end = clock.monotonic() + MAX_REQUEST_SECONDS

    def run(self, call: Callable[[], T], refusal: CallerError) -> T:
        """Return the result of `call`; raises `refusal` if the time is up before it returns."""
        interrupter = Interrupter(lambda: InterruptReason.TOO_SLOW if self._clock.monotonic() >= self._end else None)
        try:
            with interrupter.installed():
                interrupter.restart_timer(max(self._end - self._clock.monotonic(), _SHORTEST))
                interrupter.arm()
                try:
                    result = call()
                finally:
                    interrupter.disarm()
                interrupter.reraise()  # the code of `call` may have caught the interruption
                return result
        except Interrupted:
            raise refusal from None
