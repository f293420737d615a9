"""The fault cases, declared once for all tests of this folder."""

from collections.abc import Iterator

import pytest

from prove.runner import load_cases
from tests.tracing import foreign_code_untraced

load_cases()


@pytest.fixture(scope="session", autouse=True)
def _only_this_project_is_traced() -> Iterator[None]:
    with foreign_code_untraced():
        yield
