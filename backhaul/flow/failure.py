"""Telling whose failure an exception is: the processor's, or that of what it reads."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from backhaul.job import Cause

T = TypeVar("T")

_DETAIL_LONGEST = 500


def processor_cause(error: Exception) -> Cause:
    """Return why the processor failed: the kind of exception and where; what it said is only the detail."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = f"The processor raised {type(error).__name__}{where}."
    return Cause("processor_error", message, detail=str(error)[:_DETAIL_LONGEST] or None)


class Watched(Generic[T]):
    """An iterator handed to a processor: counts what it gives, and remembers its own failure.

    A processor may swallow an exception that comes out of its input; what it read would then be
    incomplete and look whole. `raise_failure` brings the exception back.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.count = 0
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            item = next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self.failure = error
            raise
        self.count += 1
        return item

    def raise_failure(self) -> None:
        """Raise what the items' own source raised, if it did."""
        if self.failure is not None:
            raise self.failure
