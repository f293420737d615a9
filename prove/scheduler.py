"""A scheduler that lets exactly one actor run at a time, on a clock of its own: the same seed, the same history."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
_STUCK_SECONDS = 60
"""Real seconds after which an actor that neither goes on nor hands the baton back is a bug of the simulation."""


class Killed(BaseException):
    """The process is gone: nothing catches this, and nothing it still does has an effect."""


class Stuck(Exception):
    """An actor holds the baton and does not give it back."""


def _taken() -> threading.Lock:
    """Return a lock that somebody else has to release: of what threads can wait for, it is by far the cheapest."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Actor:
    """One process: a thread that runs only while it holds the baton."""

    def __init__(self, name: str, body: Callable[[], Any], context: Any = None) -> None:
        self.name = name
        self.context = context
        """What the process is, for whoever sees its calls: the invocation, or nothing."""
        self.ended = False
        self.dying = False
        self.pending: BaseException | None = None
        """What is raised where it waits, once: a signal that it gets."""
        self.family: list[Actor] = [self]
        """The threads of one process, which die together."""
        self.frozen_until = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiters: list[Actor] = []
        self.ticket = 0
        self.baton = _taken()
        self.body = body
        self.thread: threading.Thread | None = None


Queue = list[tuple[float, int, int, Actor]]
"""An entry for each wake-up: its moment, a growing number, the actor's ticket at that time, and the actor."""


@dataclass
class _End:
    """The end of one `run`: it comes when the condition holds, or at the moment `longest` of virtual time."""

    until: Callable[[], bool]
    longest: float
    is_met: bool = False
    failure: BaseException | None = None

    def has_come(self, queue: Queue) -> bool:
        try:
            self.is_met = self.until()
        except BaseException as error:  # for whoever called `run`, and not for the actor in whose thread it is asked
            self.failure = error
            return True
        return self.is_met or not queue or queue[0][0] > self.longest


class Simulation:
    """Actors, a virtual clock, and one source of every choice."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # choices of a test, not secrets
        self.time = 0.0
        self._local = threading.local()
        self._back = _taken()
        self._queue: Queue = []
        self._next: Callable[[], Actor | None] = lambda: None
        """Takes whoever runs next from the queue and sets the clock; none while nobody is to go on."""
        self._handed_on: Actor | None = None
        """The actor that runs next; the last one to run has taken it from the queue."""
        self._number = 0
        self._actors: list[Actor] = []

    # The clock, as the stages take it.

    def now(self) -> datetime:
        """Return the virtual time of day."""
        return START + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        """Return virtual seconds since the simulation began."""
        return self.time

    # What an actor calls.

    @property
    def current(self) -> Actor | None:
        """The actor whose thread this is; none in the scheduler's own."""
        return getattr(self._local, "actor", None)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass while others run; raises `Killed` if this process is killed meanwhile."""
        actor = self.acting()
        self._schedule(actor, self.time + max(seconds, 0.0))
        self._hand_back(actor)

    def wait(self, other: Actor, seconds: float = float("inf")) -> bool:
        """Wait until another actor has ended, at most so long; return whether it has."""
        actor = self.acting()
        if not other.ended:
            other.waiters.append(actor)
            if seconds != float("inf"):
                self._schedule(actor, self.time + seconds)
            self._hand_back(actor)
            if not other.ended:
                other.waiters.remove(actor)
        return other.ended

    # What anybody calls.

    def spawn(
        self, name: str, body: Callable[[], Any], *, delay: float = 0.0, context: Any = None, of: Actor | None = None
    ) -> Actor:
        """Begin a process, or a thread of one."""
        actor = Actor(name, body, context)
        if of is not None:
            of.family.append(actor)
            actor.family = of.family
        self._actors.append(actor)
        self._schedule(actor, self.time + delay)
        return actor

    def kill(self, actor: Actor) -> None:
        """End a process where it stands, with all of its threads."""
        for each in actor.family:
            if not each.ended:
                each.dying = True
                self._schedule(each, self.time)

    def freeze(self, seconds: float) -> None:
        """Let the acting process, with all of its threads, stand still for so long."""
        actor = self.acting()
        for each in actor.family:
            each.frozen_until = self.time + seconds
        self.sleep(seconds)

    def thaw(self) -> int:
        """Let every process that stands still go on; return how many threads that were."""
        frozen = [each for each in self._actors if not each.ended and each.frozen_until > self.time]
        for each in frozen:
            each.frozen_until = 0.0
            self._schedule(each, self.time)
        return len(frozen)

    def wake(self, actor: Actor) -> None:
        """Let a thread that sleeps go on now."""
        self._schedule(actor, self.time)

    def interrupt(self, actor: Actor, error: BaseException) -> None:
        """Raise this in a thread where it waits."""
        actor.pending = error
        self._schedule(actor, self.time)

    # What the scheduler's thread calls.

    def run(self, until: Callable[[], bool], *, longest: float) -> bool:
        """Let the actors run until the condition holds; return whether it did before so much virtual time passed."""
        end = _End(until, longest)
        self._next = lambda: self._take_next(end)
        try:
            actor = self._next()
            while actor is not None:
                self._let_run(actor)
                actor = self._handed_on
        finally:
            self._next = lambda: None
        if end.failure is not None:
            raise end.failure
        return end.is_met

    def _take_next(self, end: _End) -> Actor | None:
        acting, self._local.actor = self.current, None  # the question is the test's, in whatever thread it is asked
        try:
            while not end.has_come(self._queue):
                moment, _, ticket, actor = heapq.heappop(self._queue)
                if not actor.ended and ticket == actor.ticket:
                    self.time = max(self.time, moment)
                    return actor
            return None
        finally:
            self._local.actor = acting

    def close(self) -> None:
        """Kill whatever still lives, so that no thread is left behind."""
        for actor in self._actors:
            actor.dying = True
            while not actor.ended:
                self._let_run(actor)
        for actor in self._actors:
            if actor.thread is not None:
                actor.thread.join()

    def _let_run(self, actor: Actor) -> None:
        if actor.thread is None:
            actor.thread = threading.Thread(target=self._live, args=(actor,), name=actor.name, daemon=True)
            actor.thread.start()
        else:
            actor.baton.release()
        # Second by second: while somebody has stopped this whole process, nobody is stuck.
        if not any(self._back.acquire(timeout=1) for _ in range(_STUCK_SECONDS)):
            raise Stuck(f"{actor.name} does not hand the baton back")

    def _live(self, actor: Actor) -> None:
        self._local.actor = actor
        try:
            if not actor.dying:
                actor.result = actor.body()
        except BaseException as error:  # whatever ends a process is for whoever waits for it
            actor.error = error
        actor.ended = True
        for waiter in actor.waiters:
            self._schedule(waiter, self.time)
        self._handed_on = self._next()
        self._back.release()

    def _hand_back(self, actor: Actor) -> None:
        self._pass_on(actor)
        while self.time < actor.frozen_until and not actor.dying:
            self._schedule(actor, actor.frozen_until)
            self._pass_on(actor)
        if actor.dying:
            raise Killed
        if actor.pending is not None:
            error, actor.pending = actor.pending, None
            raise error

    def _pass_on(self, actor: Actor) -> None:
        """Let whoever is next run, and wait until that is this actor: often at once, without a change of threads."""
        self._handed_on = self._next()
        if self._handed_on is not actor:
            self._back.release()
            actor.baton.acquire()

    def acting(self) -> Actor:
        """Return the actor whose thread this is; raises `Killed` if it is dead."""
        actor = self.current
        if actor is None:
            raise Stuck("only an actor can wait")
        if actor.dying:
            raise Killed
        return actor

    def _schedule(self, actor: Actor, moment: float) -> None:
        if actor.ended:
            return
        self._number += 1
        actor.ticket += 1
        heapq.heappush(self._queue, (moment, self._number, actor.ticket, actor))
