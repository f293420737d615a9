"""The scheduler of the deterministic layer: one actor at a time, and none that keeps the baton."""

import threading

import pytest

from prove import scheduler
from prove.scheduler import Simulation, Stuck


def test_an_actor_that_neither_goes_on_nor_hands_back_is_found(monkeypatch):
    monkeypatch.setattr(scheduler, "_STUCK_SECONDS", 1)
    simulation, go = Simulation(1), threading.Event()
    simulation.spawn("hanging", lambda: go.wait(30))
    with pytest.raises(Stuck, match="hanging"):
        simulation.run(lambda: False, longest=10)
    go.set()
    simulation.close()


def test_an_actor_that_takes_its_time_is_waited_for(monkeypatch):
    monkeypatch.setattr(scheduler, "_STUCK_SECONDS", 3)
    simulation, done = Simulation(1), []
    simulation.spawn("slow", lambda: done.append(threading.Event().wait(1.2)))
    simulation.run(lambda: bool(done), longest=10)
    assert done == [False]
    simulation.close()


def test_a_condition_that_fails_is_the_callers_failure_and_no_actors():
    simulation, seen = Simulation(1), []

    def lives():
        while True:
            simulation.sleep(1)

    def condition():
        seen.append(simulation.current)
        if simulation.time > 3:
            raise LookupError("no such job")
        return False

    actor = simulation.spawn("sleeper", lives)
    with pytest.raises(LookupError, match="no such job"):
        simulation.run(condition, longest=10)
    assert set(seen) == {None}
    assert not actor.ended
    simulation.run(lambda: simulation.time > 7, longest=10)
    assert simulation.time > 7
    simulation.close()


def test_actors_run_by_turns_in_the_order_of_their_times():
    simulation, seen = Simulation(1), []

    def body(name, pause):
        def lives():
            for _ in range(3):
                simulation.sleep(pause)
                seen.append((name, simulation.time))

        return lives

    for name, pause in (("slow", 5.0), ("quick", 1.0)):
        simulation.spawn(name, body(name, pause))
    assert not simulation.run(lambda: False, longest=100)
    assert seen == [("quick", 1), ("quick", 2), ("quick", 3), ("slow", 5), ("slow", 10), ("slow", 15)]
    simulation.close()
