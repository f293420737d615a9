"""Versions of stored records: code of today reads what an earlier version of Backhaul wrote, under today's names.

A deployment is updated while its jobs run: their items, plans, dead letters and executions stay as they were written.
A record says its version in `schema_version`; one without is of version 1. An update of single attributes writes the
version too, so a record holds names of several versions, and the newest name counts.

To rename a field of a record: rename it in the value, raise the record's number in `VERSIONS`, and add a `Rename`. An
old name is never used again for something else. A field that is new needs a default and no new version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backhaul.model.errors import UnreadableRecord

FIELD = "schema_version"


class StoredRecord(StrEnum):
    """What is stored, or handed from one function to the next, by one version and read by another."""

    JOB = "job"
    ENDED_RUN = "ended run"
    SHARD = "shard"
    STEP = "step"
    ANSWER = "answer of a provider"
    RESERVATIONS = "reservations under a limit"
    PLAN_LINE = "line of a plan"
    DEAD_LETTER = "dead letter"
    RECEIPT = "receipt"
    ORDER = "order of a run"
    OUTCOME = "outcome of a worker"


VERSIONS: Mapping[StoredRecord, int] = dict.fromkeys(StoredRecord, 1) | {
    StoredRecord.JOB: 2,
    StoredRecord.SHARD: 2,
    StoredRecord.RESERVATIONS: 2,
    StoredRecord.DEAD_LETTER: 2,
}
"""The version of each record that this code writes; it reads every earlier one."""


@dataclass(frozen=True)
class Rename:
    """A field that has another name from a version on.

    `within` names the field of the record that holds it: a mapping, or a list of mappings.
    """

    version: int
    old: str
    new: str
    within: str = ""


RENAMES: Mapping[StoredRecord, tuple[Rename, ...]] = {
    StoredRecord.JOB: (Rename(2, "attempts", "max_tries", within="policy"),),
    StoredRecord.SHARD: (Rename(2, "turns", "reservations"), Rename(2, "attempts", "tries", within="failed")),
    StoredRecord.RESERVATIONS: (Rename(2, "turns", "reservations"),),
    StoredRecord.DEAD_LETTER: (Rename(2, "letter_id", "dead_letter_id"), Rename(2, "attempts", "tries")),
}


def upgraded(record: StoredRecord, values: Mapping[str, Any], whose: str, version: int | None = None) -> dict[str, Any]:
    """Return a stored record's values under today's names.

    `whose` says in an error which record it is. `version` is that of a record that says it in another way than as a
    plain number. Raises `UnreadableRecord` for a record of a newer version.
    """
    found = values.get(FIELD, 1) if version is None else version
    if not isinstance(found, int) or found > VERSIONS[record]:
        said = f"it has version {found}, and this one reads versions up to {VERSIONS[record]}"
        raise unreadable(whose, said)
    named = dict(values)
    for rename in RENAMES.get(record, ()):
        if not rename.within:
            _rename(named, rename)
        elif isinstance(part := named.get(rename.within), Mapping):
            named[rename.within] = _renamed(part, rename)
        elif isinstance(part, list | tuple):
            named[rename.within] = [_renamed(each, rename) if isinstance(each, Mapping) else each for each in part]
    return named


def _renamed(values: Mapping[str, Any], rename: Rename) -> dict[str, Any]:
    named = dict(values)
    _rename(named, rename)
    return named


def _rename(values: dict[str, Any], rename: Rename) -> None:
    if rename.old in values:
        old = values.pop(rename.old)
        values.setdefault(rename.new, old)


def former(record: StoredRecord, names: Iterable[str]) -> tuple[str, ...]:
    """Return the old names of these fields: whoever writes a field removes what is stored under its old name."""
    written = set(names)
    return tuple(rename.old for rename in RENAMES.get(record, ()) if not rename.within and rename.new in written)


def unreadable(whose: str, problem: str) -> UnreadableRecord:
    """Return the error for a record that this version cannot read."""
    said = f"The record of {whose} is not what this version can read: {problem}"
    return UnreadableRecord(f"{said}. Another version of Backhaul wrote it; deploy that one.")
