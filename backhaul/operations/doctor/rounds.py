"""The doctor's rounds: all checks, a second look at each finding about a job, and the repairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from backhaul.model.errors import JobNotFound
from backhaul.model.job import Job, JobRef
from backhaul.operations.connection import Operations
from backhaul.operations.doctor import admission, files, records, runs, surroundings
from backhaul.operations.doctor.finding import Finding, SurveyScope
from backhaul.operations.doctor.survey import Survey
from backhaul.store.audit import AuditRecord


@dataclass(frozen=True)
class Check:
    """A check of something that must always be true of a deployment."""

    name: str
    find: Callable[[Survey], Iterator[Finding]]


CHECKS = (
    Check("lost-run", runs.lost),
    Check("unbegun-run", runs.unbegun),
    Check("ignored-stop", runs.disobedient),
    Check("missed-deadline", runs.overdue),
    Check("stalled-shards", runs.stalled),
    Check("idle-slot", admission.idle_slots),
    Check("missing-slot", admission.missing_slots),
    Check("unplaced-job", admission.unplaced),
    Check("idle-queue", admission.idle_queue),
    Check("unlisted-job", records.unlisted),
    Check("unreadable-job", records.unreadable),
    Check("late-upload", records.unsettled_uploads),
    Check("wrong-counts", records.miscounted),
    Check("lost-results", files.lost_results),
    Check("lost-output", files.lost_outputs),
    Check("unfinished-upload", files.unfinished_uploads),
    Check("dead-letters", surroundings.dead_letters),
    Check("unheard-alarms", surroundings.unheard_alarms),
    Check("small-quota", surroundings.small_quota),
)
MAX_ROUNDS = 3
"""The most rounds of repairs: one repair may make another possible, as a freed slot lets a job start."""

UNCHECKED = "unchecked"
"""The key of the finding that says that a check failed."""


@dataclass(frozen=True)
class Examination:
    """The problems of a deployment, in the order of the checks."""

    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()
    checks: int = len(CHECKS)

    @property
    def mendable(self) -> tuple[Finding, ...]:
        """The findings that have a repair."""
        return tuple(each for each in self.findings if each.repair is not None)


@dataclass(frozen=True)
class RepairResult:
    """A finding, whether its repair succeeded, and the repair's answer."""

    finding: Finding
    succeeded: bool
    said: str


@dataclass(frozen=True)
class Treatment:
    """The problems before the treatment, the repairs, and the problems that are left."""

    before: Examination
    repairs: tuple[RepairResult, ...]
    left: Examination


def examine(operations: Operations, scope: SurveyScope) -> Examination:
    """Run every check and return the problems.

    A problem of a job counts only if a second look confirms it: the job may have begun or ended between the reads of
    the slots and of the job.
    """
    survey = Survey(operations, scope)
    found = list(_look(survey, CHECKS))
    suspects = frozenset(each.ref for each in found if each.ref is not None)
    if suspects:
        found = list(_confirmed(found, Survey(operations, scope, only=suspects)))
    return Examination(tuple(found), tuple(survey.skipped))


def treat(operations: Operations, scope: SurveyScope, before: Examination | None = None) -> Treatment:
    """Make every possible repair, each with an audit record written before it, and examine again."""
    first = left = before or examine(operations, scope)
    repairs: list[RepairResult] = []
    tried: set[tuple[str, JobRef | None, str]] = set()
    for _ in range(MAX_ROUNDS):
        todo = [each for each in left.mendable if each.identity not in tried]
        if not todo:
            break
        tried |= {each.identity for each in todo}
        repairs += [_mend(each, operations) for each in todo]
        left = examine(operations, scope)
    return Treatment(first, tuple(repairs), left)


def _look(survey: Survey, checks: Iterable[Check]) -> Iterator[Finding]:
    for check in checks:
        try:
            yield from (replace(found, check=check.name) for found in check.find(survey))
        except Exception as error:  # a check that fails must not stop the others
            what = f"the check failed: {type(error).__name__}: {error}"
            mends_by = "by hand: remove the cause of the error, then run the doctor again"
            yield Finding(what, mends_by, check=check.name, key=UNCHECKED)


def _confirmed(found: Iterable[Finding], again: Survey) -> Iterator[Finding]:
    seen = tuple(found)
    names = {each.check for each in seen if each.ref is not None}
    second = {each.identity: each for each in _look(again, (check for check in CHECKS if check.name in names))}
    unchecked = {each.check for each in second.values() if each.key == UNCHECKED}
    for each in seen:
        if each.ref is None or each.check in unchecked:
            yield each
        elif each.identity in second:
            yield second[each.identity]


def _mend(found: Finding, operations: Operations) -> RepairResult:
    audit, ref = operations.store.audit, found.ref
    record = AuditRecord(
        action=f"doctor {found.check}",
        who=operations.who,
        why=found.what,
        job=f"{ref.tenant}/{ref.job_id}" if ref else None,
        what={"repair": found.mends_by} | ({"key": found.key} if found.key else {}),
    )
    begun = audit.begin(record, _known(found, operations))
    try:
        said = (found.repair and found.repair()) or "the problem was gone already"
        succeeded = True
    except Exception as error:  # a repair that fails must not stop the others
        said, succeeded = f"{type(error).__name__}: {error}", False
    audit.close(begun, f"{'mended' if succeeded else 'failed'}: {said}")
    return RepairResult(found, succeeded, said)


def _known(found: Finding, operations: Operations) -> Job | None:
    """Return the job of a finding if it exists: a copy of the audit record is then stored beside it."""
    try:
        return operations.store.jobs.get(found.ref) if found.ref else None
    except JobNotFound:
        return None
