"""The reasons for which Backhaul ends a processor's code, and the exception that does it."""

from __future__ import annotations

from enum import StrEnum
from typing import NoReturn


class InterruptReason(StrEnum):
    """Why Backhaul ends a processor's code."""

    TOO_SLOW = "too_slow"
    """The record has passed its time limit."""
    TIME_UP = "time_up"
    """The worker's time is up."""
    STOP = "stop"
    """The job has to stop, or another worker holds the shard."""
    WAIT = "wait"
    """The record waits for something outside, such as a provider's limit; nothing is wrong with it."""
    AGAIN = "again"
    """The record waits for something outside, but only for a moment: the worker stays and tries it again."""


class Interrupted(BaseException):
    """Backhaul ends a processor's code; not an `Exception`, so that no processor catches it by mistake."""

    def __init__(self, reason: InterruptReason, seconds: float = 0.0, what: str = "", provider: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds
        """How long the record waits before the next try; this one does not count."""
        self.what = what
        """What it waits for, in words."""
        self.provider = provider
        """The provider that it waits for, where it waits for one."""


def wait_outside(seconds: float, what: str, provider: str = "") -> NoReturn:
    """End a processor's code until so many seconds have passed, because of what it waits for."""
    raise Interrupted(InterruptReason.WAIT, seconds, what, provider)
