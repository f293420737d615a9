"""Threads that work side by side on what one thread hands them; results come in the order of the tasks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

AHEAD = 4
"""Tasks that may be begun before the first of them has ended, for each thread: one that takes long stops no others."""
LOOK_SECONDS = 1.0
"""How often a result is looked for that nobody has told of."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass
class _Job(Generic[Task, Result]):
    task: Task
    ended: bool = False
    result: Result | None = None
    error: BaseException | None = None


class OrderedThreads(Generic[Task, Result]):
    """Calls `work` for each task, in up to `size` threads at a time.

    Threads are for what waits for others. One is begun for each task: beside a call over the network that costs
    nothing, and none is left when the tasks are.
    """

    def __init__(self, size: int, work: Callable[[Task], Result]) -> None:
        self._size = size
        self._work = work
        self._told = threading.Event()
        self._jobs: deque[_Job[Task, Result]] = deque()

    def in_order(
        self, tasks: Iterable[Task], waits_for: Callable[[Task], None]
    ) -> Generator[tuple[Task, Result], None, None]:
        """Yield each task and its result; raises what `work` raised for a task when its turn comes.

        `waits_for` is told whose turn it is. Tasks are taken in the caller's thread. However this ends, what
        is in work is waited for, because it may have been paid for: an interruption gives up one task, not all.
        """
        todo = iter(tasks)
        try:
            while self._fill(todo):
                first = self._jobs[0]
                waits_for(first.task)
                if not first.ended:
                    self._wait()
                    continue
                if first.error is not None:
                    raise first.error
                self._jobs.popleft()
                yield first.task, first.result  # type: ignore[misc]  # it has ended without an error
        finally:
            self._finish(waits_for)

    def _finish(self, waits_for: Callable[[Task], None]) -> None:
        for job in self._jobs:
            try:
                while not job.ended:
                    waits_for(job.task)
                    self._wait()
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the task's time limit, or the worker's: its thread goes on, for nobody
                job.error = error

    def _fill(self, todo: Iterator[Task]) -> bool:
        """Begin as many tasks as there is room for; returns whether any is left."""
        while self._room():
            try:
                job: _Job[Task, Result] = _Job(next(todo))
            except StopIteration:
                break
            self._jobs.append(job)
            threading.Thread(target=self._run, args=(job,), name="record", daemon=True).start()
        return bool(self._jobs)

    def _room(self) -> bool:
        # After a failure nothing new is begun: its turn comes, and ends this.
        if any(each.error is not None for each in self._jobs) or len(self._jobs) >= AHEAD * self._size:
            return False
        return sum(not each.ended for each in self._jobs) < self._size

    def _run(self, job: _Job[Task, Result]) -> None:
        try:
            job.result = self._work(job.task)
        except BaseException as error:  # whatever it is, it is for the thread that takes the result
            job.error = error
        finally:
            job.ended = True
            self._told.set()

    def _wait(self) -> None:
        self._told.wait(LOOK_SECONDS)
        self._told.clear()
