"""What stands in for the clock and for Step Functions where a crowd is all that matters, and the report on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backhaul.model import keys
from backhaul.model.job import Job
from backhaul.store import RunStatus


class Killed(BaseException):
    """The function's process is gone."""


@dataclass
class Time:
    """The time of day, which only the run of things moves."""

    present: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the time of day."""
        return self.present

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return self.present.timestamp()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.present += timedelta(seconds=seconds)


@dataclass
class Runs:
    """The state machine: which runs were started, and how they stand."""

    started: Counter[str] = field(default_factory=Counter)
    live: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def start(self, job: Job, *, salvage: bool = False) -> None:
        """Start a run; starting it again changes nothing."""
        name = keys.run_name(job.ref, job.run, salvage=salvage)
        if name not in self.live and name not in self.ended:
            self.started[name] += 1
            self.live[name] = job

    def status(self, job: Job, *, salvage: bool = False) -> RunStatus:
        """Return how a run stands."""
        name = keys.run_name(job.ref, job.run, salvage=salvage)
        return RunStatus("RUNNING" if name in self.live else self.ended.get(name, "ABSENT"))


@dataclass
class Report:
    """What came of the crowd."""

    uploads: int
    runs: int = 0
    most_at_once: int = 0
    dead_letters: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    lost_slot_seconds: float = 0.0
    """The longest that a slot was held by a job that had ended."""
    violations: list[str] = field(default_factory=list)
