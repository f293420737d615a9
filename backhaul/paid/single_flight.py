"""Single flight: of several threads that make the same call, one makes it, and the others wait for its result.

The worker may give a thread up (a record that took too long) while its call goes on. The thread that tries the record
again then waits for that call instead of paying for a second one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The calls under way, by key; may be used by many threads."""

    def __init__(self) -> None:
        self._calls: dict[str, Future[T]] = {}
        self._given_up: set[str] = set()
        self._generation = 0
        self._lock = threading.Lock()

    def begin(self) -> int:
        """Begin a generation and return its number; threads of earlier generations begin no more calls.

        The results of their calls under way are kept: a thread that asks again may have looked for the stored answer
        before it was there.
        """
        with self._lock:
            self._given_up |= {key for key, call in self._calls.items() if not call.done()}
            self._generation += 1
            return self._generation

    def once(self, key: str, call: Callable[[], T], *, generation: int, seconds: float) -> T | None:
        """Return the result of `call`, or of the call of the same key that is under way or that was given up.

        None if waiting for another thread's call takes more than `seconds`, or if a later generation has begun. Raises
        what the call raises.
        """
        ours: Future[T] = Future()
        with self._lock:
            if key not in self._calls and generation != self._generation:
                return None
            first = self._calls.setdefault(key, ours)
        if first is not ours:
            try:
                return first.result(max(seconds, 0))
            except NotYet:
                return None
        try:
            made = call()
        except BaseException as error:
            ours.set_exception(error)
            self._forget(key)
            raise
        ours.set_result(made)
        if key not in self._given_up:
            self._forget(key)
        return made

    def _forget(self, key: str) -> None:
        with self._lock:
            del self._calls[key]
