"""Versions of stored records: this version reads what an earlier version of Backhaul wrote, under the new names.

An operator updates a deployment while its jobs run. Their items, plans, dead letters and executions stay as they were
written. A record says its version in `schema_version`; a record without one has version 1. An update of single
attributes writes the version too. So a record may hold names of several versions, and the newest name counts.

To rename a field of a record: rename it in the value, raise the record's number in `VERSIONS`, and add a `Rename`. An
old name must never be used again for something else. A new field needs a default and no new version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from backhaul.model.errors import UnreadableRecord

FIELD = "schema_version"


class StoredRecord(StrEnum):
    """The records that one version may write (to a store, or for the next function) and another version read."""

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
"""The version in which this code writes each record; it reads every earlier version."""


@dataclass(frozen=True)
class Rename:
    """A field that has a new name from a version on.

    `within` names the record's field that contains it: a mapping, or a list of mappings. Empty for the record itself.
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
    """Return a stored record's values under the names of this version.

    `whose` names the record in an error. `version` is the record's version where `values` do not hold it as a plain
    number. Raises `UnreadableRecord` for a record of a newer version.
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
    """Return the old names of these fields; a write of a field must remove the attribute with its old name."""
    written = set(names)
    return tuple(rename.old for rename in RENAMES.get(record, ()) if not rename.within and rename.new in written)


def unreadable(whose: str, problem: str) -> UnreadableRecord:
    """Return the error for a record that this version cannot read."""
    said = f"The record of {whose} is not what this version can read: {problem}"
    return UnreadableRecord(f"{said}. Another version of Backhaul wrote it; deploy that one.")
