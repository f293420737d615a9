"""The doctor's findings, and the scope of its search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from backhaul.model.job import JobRef


@dataclass(frozen=True)
class Finding:
    """One problem of a deployment, and its repair."""

    what: str
    mends_by: str
    """What the repair would do, or what a person must do."""
    ref: JobRef | None = None
    """The job with the problem; None if the problem is not a job's."""
    since: datetime | None = None
    key: str = ""
    """Distinguishes findings of one check that have the same job, or none."""
    repair: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Repairs the problem and returns what it did, "" if nothing was left to do; None if only a person can."""
    check: str = ""

    @property
    def identity(self) -> tuple[str, JobRef | None, str]:
        """The same for the same problem in every examination."""
        return self.check, self.ref, self.key


@dataclass(frozen=True)
class SurveyScope:
    """The jobs that the doctor examines besides all open ones."""

    tenants: tuple[str, ...] = ()
    """Tenants whose jobs the doctor examines even if none of them is open."""
    job: JobRef | None = None
    """A job that the doctor examines however long ago it ended."""
    all_ended: bool = False
    """Whether the doctor also examines ended jobs that were created more than a day ago."""
