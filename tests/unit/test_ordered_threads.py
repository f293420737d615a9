"""Threads that work side by side: order, bounds, failures, and what is in work when it ends."""

import threading
from contextlib import closing
from itertools import count
from threading import Event, Lock

import pytest

from backhaul.plugin.ordered_threads import AHEAD, OrderedThreads

LONG = 10.0


class Work:
    """Work that ends when a test says so, and knows how much of it goes on at a time."""

    def __init__(self):
        self.lock = Lock()
        self.now = self.most = 0
        self.begun = []
        self.gates = {}

    def __call__(self, task):
        with self.lock:
            self.begun.append(task)
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            gate = self.gates.get(task)
            if isinstance(gate, BaseException):
                raise gate
            if gate is not None:
                assert gate.wait(LONG)
            return task * 10
        finally:
            with self.lock:
                self.now -= 1


@pytest.fixture
def work():
    return Work()


def ignored(_):
    pass


def test_results_come_in_order_whatever_ends_first(work):
    gate = work.gates[0] = Event()
    work.gates[5] = Event()
    work.gates[5].set()
    threads = OrderedThreads(3, work)
    done = threads.in_order(range(8), ignored)
    threading.Timer(0.05, gate.set).start()
    assert list(done) == [(task, task * 10) for task in range(8)]
    assert work.most <= 3


def test_no_more_is_in_work_than_the_crew_is_large(work):
    gates = {task: Event() for task in range(20)}
    work.gates = gates
    results = []

    def consume():
        results.extend(OrderedThreads(4, work).in_order(range(20), ignored))

    consumer = threading.Thread(target=consume)
    consumer.start()
    for task in range(20):
        gates[task].set()
    consumer.join(LONG)
    assert [task for task, _ in results] == list(range(20))
    assert work.most <= 4


def test_one_that_takes_long_holds_up_no_others_but_bounds_what_is_begun(work):
    gate = work.gates[0] = Event()
    given = count()
    waited_for = []

    def released(task):
        waited_for.append(task)
        if len(work.begun) == 2 * AHEAD and work.now == 1:
            gate.set()

    with closing(OrderedThreads(2, work).in_order(given, released)) as done:
        assert next(done) == (0, 0)
    assert set(waited_for) == {0}
    assert sorted(work.begun) == list(range(2 * AHEAD))


def test_a_failure_is_raised_in_its_turn_and_nothing_new_is_begun_after_it(work):
    work.gates[2] = ValueError("bad")
    work.gates[1] = gate = Event()
    work.gates[3] = slow = Event()
    threading.Timer(0.05, gate.set).start()
    threading.Timer(0.1, slow.set).start()
    done = OrderedThreads(4, work).in_order(range(100), ignored)
    assert [next(done)[0], next(done)[0]] == [0, 1]
    with pytest.raises(ValueError, match="bad"):
        next(done)
    assert len(work.begun) <= 4 * AHEAD
    assert work.now == 0, "what was in work is waited for: it may have been paid for"


def test_an_interruption_gives_up_what_is_waited_for_and_waits_for_the_others(work):
    stuck = work.gates[0] = Event()
    slow = work.gates[1] = Event()
    threading.Timer(0.2, slow.set).start()
    threads = OrderedThreads(2, work)
    asked = []

    def interrupting(task):
        asked.append(task)
        if task == 0:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        list(threads.in_order(range(2), interrupting))
    assert set(asked) == {0, 1}
    assert work.now == 1, "the one that was given up"
    stuck.set()


def test_a_consumer_that_stops_early_waits_for_what_is_in_work(work):
    slow = work.gates[1] = Event()
    threading.Timer(0.1, slow.set).start()
    with closing(OrderedThreads(2, work).in_order(range(10), ignored)) as done:
        next(done)
    assert work.now == 0


def test_what_the_tasks_themselves_raise_passes(work):
    def tasks():
        yield 1
        raise LookupError

    with pytest.raises(LookupError):
        list(OrderedThreads(2, work).in_order(tasks(), ignored))
    assert work.now == 0


def test_an_exit_in_a_thread_is_the_callers(work):
    work.gates[0] = SystemExit(3)
    with pytest.raises(SystemExit):
        list(OrderedThreads(1, work).in_order([0], ignored))
