"""Failures of our own stores, told apart from a worker's death: nobody is to blame, and waiting mends them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from backhaul.model.errors import StoreUnavailable
from backhaul.model.transience import is_transient

P = ParamSpec("P")
T = TypeVar("T")


def is_outage(error: BaseException) -> bool:
    """Return whether what left the stage's own code says that a store is out of order."""
    return isinstance(error, StoreUnavailable) or is_transient(error)


def outages_as_unavailable(stage: Callable[P, T]) -> Callable[P, T]:
    """Raise `StoreUnavailable` for every failure of a store that may pass: Step Functions is patient with that."""

    @wraps(stage)
    def patient(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return stage(*arguments, **options)
        except Exception as error:
            if not is_outage(error) or isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    return patient
