"""Coverage measures this project's code, and does not watch what botocore and the AWS doubles do meanwhile."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from botocore.client import BaseClient
from botocore.session import Session


@contextmanager
def foreign_code_untraced() -> Iterator[None]:
    """Make requests to AWS, and clients for them, without the trace function, which would double their time."""
    request: Any = BaseClient._make_api_call
    with (
        mock.patch.object(BaseClient, "_make_api_call", untraced(request)),
        mock.patch.object(Session, "create_client", untraced(Session.create_client)),
    ):
        yield


def untraced(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, during which this thread's trace function rests.

    Also for tests of large inputs, whose lines are run a million times, and by smaller tests as well.
    """

    @functools.wraps(call)
    def called(*args: Any, **kwargs: Any) -> Any:
        tracer = sys.gettrace()
        if tracer is None:
            return call(*args, **kwargs)
        sys.settrace(None)
        try:
            return call(*args, **kwargs)
        finally:
            sys.settrace(tracer)

    return called
