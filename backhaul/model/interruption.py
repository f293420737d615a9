"""How a processor's code is ended from outside, as a value and an exception."""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn


class InterruptReason(StrEnum):
    """Why a processor's code is ended."""

    TOO_SLOW = "too_slow"
    """The record has passed its time limit."""
    TIME_UP = "time_up"
    """The worker's own time is up."""
    STOP = "stop"
    """The job is to stop, or another worker holds the shard."""
    WAIT = "wait"
    """The record waits for something outside, such as a provider's limit; nothing is wrong with it."""
    AGAIN = "again"
    """The same, for a moment only: it is not worth leaving."""


class Interrupted(BaseException):
    """A processor's code was ended from outside; not an `Exception`, so that no processor catches it by mistake."""

    def __init__(self, reason: InterruptReason, seconds: float = 0.0, what: str = "", provider: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds
        """How long the record is to wait, before it is tried again as if it had not been."""
        self.what = what
        """What it waits for, in words."""
        self.provider = provider
        """The provider that it waits for, where it waits for one."""


def wait_outside(seconds: float, what: str, provider: str = "") -> NoReturn:
    """End a processor's code until so many seconds have passed, because of what it waits for."""
    raise Interrupted(InterruptReason.WAIT, seconds, what, provider)
