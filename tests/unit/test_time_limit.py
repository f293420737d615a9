"""What a caller's text makes slow ends after two seconds, whatever it is."""

import re
import time
from contextlib import suppress

import pytest

from backhaul.model.clock import SystemClock
from backhaul.model.errors import InvalidOption
from backhaul.worker import time_limit
from backhaul.worker.time_limit import TimeLimit

REFUSAL = InvalidOption("It takes too long.")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(time_limit, "MAX_REQUEST_SECONDS", 0.3)


def long_search():
    re.search("(?=a*b)", "a" * 200_000)


def long_backtracking():
    re.search(r"(?:|){30}\b", "")


def long_loop():
    while True:
        pass


def swallowed():
    with suppress(BaseException):
        long_loop()
    return "as if nothing had been"


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("call", [long_search, long_backtracking, long_loop, swallowed])
def test_what_takes_longer_than_the_limit_is_refused(call):
    began = time.monotonic()
    with pytest.raises(InvalidOption, match="It takes too long"):
        TimeLimit(SystemClock()).run(call, REFUSAL)
    assert time.monotonic() - began < 10  # the search looks for signals seldom, and would take a minute


@pytest.mark.usefixtures("short")
def test_the_parts_of_a_request_share_the_time():
    limit = TimeLimit(SystemClock())
    assert limit.run(lambda: time.sleep(0.2), REFUSAL) is None
    with pytest.raises(InvalidOption):
        limit.run(lambda: time.sleep(0.2), REFUSAL)


@pytest.mark.usefixtures("short")
def test_what_comes_after_the_limited_part_is_not_interrupted():
    assert TimeLimit(SystemClock()).run(lambda: 5, REFUSAL) == 5
    time.sleep(0.4)


def test_an_error_of_the_limited_part_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        TimeLimit(SystemClock()).run(lambda: 1 // 0, REFUSAL)
