"""What is asked twice at the same time is asked once: by a thread that was given up, and by the one after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Generic, TypeVar

T = TypeVar("T")


class UnderWay(Generic[T]):
    """The calls under way, by key; may be used by many threads."""

    def __init__(self) -> None:
        self._calls: dict[str, Future[T]] = {}
        self._lock = threading.Lock()

    def once(self, key: str, call: Callable[[], T], *, seconds: float) -> T | None:
        """Return what `call` returns, or what a call of this key under way does; None if that takes too long.

        Raises what the call raises.
        """
        ours: Future[T] = Future()
        with self._lock:
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
            raise
        else:
            ours.set_result(made)
            return made
        finally:
            with self._lock:
                del self._calls[key]
