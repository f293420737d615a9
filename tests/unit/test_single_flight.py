"""What is asked twice is asked once, however late the second asks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backhaul.paid.single_flight import SingleFlight


class Slow:
    """A call that ends when it is let go; it knows how often it was made."""

    def __init__(self, error=None):
        self.begun, self.generation = threading.Event(), threading.Event()
        self.times, self.error = 0, error

    def __call__(self):
        self.times += 1
        self.begun.set()
        assert self.generation.wait(10)
        if self.error:
            raise self.error
        return self.times


@pytest.fixture
def pool():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def first(pool, calls, slow):
    begun = pool.submit(calls.once, "k", slow, generation=0, seconds=10)
    assert slow.begun.wait(10)
    return begun


def test_who_asks_while_it_is_asked_gets_the_same(pool):
    calls, slow = SingleFlight(), Slow()
    asked = first(pool, calls, slow)
    again = pool.submit(calls.once, "k", slow, generation=0, seconds=10)
    slow.generation.set()
    assert (asked.result(), again.result(), slow.times) == (1, 1, 1)


def test_who_cannot_wait_gets_nothing(pool):
    calls, slow = SingleFlight(), Slow()
    asked = first(pool, calls, slow)
    assert calls.once("k", slow, generation=0, seconds=0.01) is None
    assert calls.once("k", slow, generation=0, seconds=-1) is None
    slow.generation.set()
    assert asked.result() == 1


def test_what_has_ended_is_asked_anew(pool):
    calls, slow = SingleFlight(), Slow()
    slow.generation.set()
    assert [calls.once("k", slow, generation=0, seconds=1) for _ in range(2)] == [1, 2]
    assert calls.once("k", slow, generation=calls.begin(), seconds=1) == 3


def test_what_comes_of_a_call_that_was_given_up_is_kept(pool):
    calls, slow = SingleFlight(), Slow()
    asked = first(pool, calls, slow)
    generation = calls.begin()
    slow.generation.set()
    assert asked.result() == 1
    assert [calls.once("k", slow, generation=each, seconds=0) for each in (generation, generation, 0)] == [1, 1, 1]


def test_who_was_given_up_begins_nothing(pool):
    calls, slow = SingleFlight(), Slow()
    slow.generation.set()
    calls.begin()
    assert calls.once("k", slow, generation=0, seconds=1) is None
    assert slow.times == 0


def test_a_failure_is_for_those_who_asked_and_is_not_kept(pool):
    calls, slow = SingleFlight(), Slow(ValueError("no"))
    asked = first(pool, calls, slow)
    generation = calls.begin()
    slow.generation.set()
    with pytest.raises(ValueError, match="no"):
        asked.result()
    slow.error = None
    assert calls.once("k", slow, generation=generation, seconds=1) == 2
