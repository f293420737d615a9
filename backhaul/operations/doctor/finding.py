"""What the doctor finds, and how much of the deployment it looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from backhaul.model.job import JobRef


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what mends it."""

    what: str
    mends_by: str
    """What a repair would do, or what a person must do."""
    ref: JobRef | None = None
    """The job that it is about, if it is about one."""
    since: datetime | None = None
    key: str = ""
    """Tells it from others of the same check that are about no job."""
    repair: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Mends it, if that can be done, and says what it did; nothing if there was nothing to do any more."""
    check: str = ""

    @property
    def identity(self) -> tuple[str, JobRef | None, str]:
        """The same for the same thing, whenever one looks."""
        return self.check, self.ref, self.key


@dataclass(frozen=True)
class SurveyScope:
    """Which jobs the doctor looks at, besides all that are open."""

    tenants: tuple[str, ...] = ()
    """Tenants whose jobs are looked at although none of them is open."""
    job: JobRef | None = None
    """A job that is looked at however long ago it ended."""
    all_ended: bool = False
    """Whether jobs that were created more than a day ago and have ended are looked at as well."""
