"""Telling whose failure an exception is: the processor's, or that of what it reads."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from backhaul.model.errors import InvalidProcessor, OperatorError, UnsuitableInput, WorkError
from backhaul.model.job import Cause
from backhaul.model.transience import is_transient

T = TypeVar("T")

_PACKAGE = Path(__file__).parent.parent
_PROCESSORS = _PACKAGE / "processors"


def processor_cause(error: BaseException) -> Cause:
    """Return why the processor failed: the kind of exception and where; what it said is only the detail.

    What an `UnsuitableInput` says is meant for the job's owner, and an `OperatorError`'s words are Backhaul's: those
    are the message.
    """
    if isinstance(error, UnsuitableInput):
        return Cause(error.code, str(error), error.position)
    if isinstance(error, InvalidProcessor):
        return Cause("processor_error", f"The processor breaks its contract{_where(error)}: {error}")
    if isinstance(error, OperatorError):
        return Cause(error.code, str(error))
    code = error.code if isinstance(error, WorkError) else "transient" if is_transient(error) else "processor_error"
    message = f"The processor raised {type(error).__name__}{_where(error)}."
    return Cause(code, message, detail=_said(error) or None)


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # an exception of any making, which may not even say what it is
        return ""


def _where(error: BaseException) -> str:
    """Return the last place outside Backhaul's own code, or nothing: where we noticed it helps no author."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PROCESSORS) or not path.is_relative_to(_PACKAGE):
            return f" at {path.name}:{frame.lineno}"
    return ""


def only_bytes(pieces: Iterable[object], method: str) -> Iterator[bytes]:
    """Yield the pieces that a processor's method gives; raises `InvalidProcessor` unless each is bytes."""
    # A plug-in need not be typed; a str or bytes can be iterated over, but holds no pieces.
    if isinstance(pieces, str | bytes) or not isinstance(pieces, Iterable):
        raise InvalidProcessor(f"{method} must yield bytes, not return {type(pieces).__name__}.")
    for piece in pieces:
        if not isinstance(piece, bytes):
            raise InvalidProcessor(f"{method} must yield bytes, not {type(piece).__name__}.")
        yield piece


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
