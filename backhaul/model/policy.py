"""A job's policy: how many missing chunks its caller tolerates, and its limits on tries, time and money."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from msgspec import Meta, Struct

from backhaul.model.errors import InvalidRequest
from backhaul.model.money import nanodollars

DAY_SECONDS = 24 * 3600
MAX_DEADLINE = 7 * DAY_SECONDS
TIME_KEPT_SECONDS = 5.0
"""The time that a worker keeps for its last commit, but never more than a tenth of what it has."""

_Count = Annotated[int, Meta(ge=0)]
_Percent = Annotated[str, Meta(pattern=r"^(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%\Z")]


class Written(StrEnum):
    """How a field is written on the command line; the value is what the help shows for it."""

    COUNT = "N"
    SECONDS = "SECONDS"
    TIME = "TIME"
    SHARE = "N|N%"
    DOLLARS = "DOLLARS"
    FLAG = ""


class Policy(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """How a job deals with trouble; every field has a default.

    A field is written here alone: options of `backhaul submit` and the table in `docs/api.md` are made of what its
    `Meta` says (`backhaul/model/policy_fields.py`).
    """

    tolerate: Annotated[
        _Count | _Percent | None,
        Meta(
            description="How many chunks may be missing from the output, as 5 or 5%; if more are, the job is FAILED.",
            extra={"written": Written.SHARE},
        ),
    ] = None
    fail_fast: Annotated[
        bool,
        Meta(
            description="End the job as FAILED at the first chunk that cannot be processed.",
            extra={"written": Written.FLAG},
        ),
    ] = False
    max_tries: Annotated[
        int,
        Meta(
            ge=1,
            le=10,
            description="How many times to try a record whose failure may pass, such as a time-out.",
            extra={"written": Written.COUNT},
        ),
    ] = 4
    record_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=600,
            description="How many seconds one try of a record may take.",
            extra={"written": Written.SECONDS, "option": "record-timeout"},
        ),
    ] = 120
    deadline_seconds: Annotated[
        int,
        Meta(
            ge=60,
            le=MAX_DEADLINE,
            description="How long each run of the job may take.",
            extra={"written": Written.TIME, "option": "deadline"},
        ),
    ] = DAY_SECONDS
    priority: Annotated[
        int,
        Meta(ge=0, le=9, description="Queued jobs of a higher priority start first.", extra={"written": Written.COUNT}),
    ] = 5
    max_cost: Annotated[
        Decimal | None,
        Meta(
            description="US dollars that the job's provider calls may cost in all, as 2.50; then the job is PAUSED.",
            extra={"written": Written.DOLLARS},
        ),
    ] = None
    cache: Annotated[
        bool,
        Meta(
            description="Share answers of providers with your other jobs that make the same request.",
            extra={"written": Written.FLAG},
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.max_cost is not None and nanodollars(self.max_cost) == 0:
            raise InvalidRequest(
                "max_cost is 0, so no call could be made. Give a larger amount, or leave it out for no limit."
            )

    @property
    def cap(self) -> int | None:
        """`max_cost` in nanodollars; None if there is no limit."""
        return None if self.max_cost is None else nanodollars(self.max_cost)

    def tolerates(self, missing: int, chunks: int) -> bool:
        """Return whether an output may lack so many of its chunks."""
        if self.tolerate is None:
            return True
        if isinstance(self.tolerate, int):
            return missing <= self.tolerate
        return missing * 100 <= Fraction(self.tolerate.removesuffix("%")) * chunks


DEFAULT = Policy()


def time_for_work(seconds: float) -> float:
    """Return for how many of its remaining seconds a worker may work before its last commit."""
    return seconds - min(TIME_KEPT_SECONDS, seconds / 10)
