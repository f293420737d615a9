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
