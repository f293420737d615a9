"""Failures of the deployment's stores, told apart from a worker's death: no chunk is to blame, and waiting helps."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from backhaul.model.errors import StoreUnavailable
from backhaul.model.transience import is_transient

P = ParamSpec("P")
T = TypeVar("T")


def is_outage(error: BaseException) -> bool:
    """Return whether an exception that left a stage's own code means that a store is out of order."""
    return isinstance(error, StoreUnavailable) or is_transient(error)


def outages_as_unavailable(stage: Callable[P, T]) -> Callable[P, T]:
    """Return the stage with every passing failure of a store raised as `StoreUnavailable`.

    Step Functions retries `StoreUnavailable` for hours, and any other exception only a few times.
    """

    @wraps(stage)
    def patient(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return stage(*arguments, **options)
        except Exception as error:
            if not is_outage(error) or isinstance(error, StoreUnavailable):
                raise
            raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    return patient
