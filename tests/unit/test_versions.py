"""Stored records are read under today's names, and those of a newer version are refused."""

import pytest

from backhaul.model import versions
from backhaul.model.errors import UnreadableRecord
from backhaul.model.versions import RENAMES, VERSIONS, Rename, StoredRecord, former, upgraded


@pytest.fixture
def renamed(monkeypatch):
    """Shard records in which two fields have other names by now."""
    renames = (Rename(2, "old", "new"), Rename(3, "inner_old", "inner_new", within="part"))
    monkeypatch.setattr(versions, "RENAMES", {StoredRecord.SHARD: renames})
    monkeypatch.setattr(versions, "VERSIONS", VERSIONS | {StoredRecord.SHARD: 3})


@pytest.mark.usefixtures("renamed")
def test_old_names_are_read_as_new_ones_and_what_was_given_stays():
    given = {"old": 1, "part": {"inner_old": 2, "other": 3}, "more": 4}
    assert upgraded(StoredRecord.SHARD, given, "x") == {"new": 1, "part": {"inner_new": 2, "other": 3}, "more": 4}
    assert given == {"old": 1, "part": {"inner_old": 2, "other": 3}, "more": 4}


@pytest.mark.usefixtures("renamed")
@pytest.mark.parametrize("part", [None, "text", [1]])
def test_a_field_that_holds_no_fields_stays_as_it_is(part):
    assert upgraded(StoredRecord.SHARD, {"part": part}, "x") == {"part": part}


@pytest.mark.usefixtures("renamed")
def test_of_two_names_the_newer_one_counts():
    assert upgraded(StoredRecord.SHARD, {"old": 1, "new": 2, "schema_version": 3}, "x") == {
        "new": 2,
        "schema_version": 3,
    }


@pytest.mark.usefixtures("renamed")
def test_who_writes_a_field_learns_its_old_name():
    assert former(StoredRecord.SHARD, ["new", "more"]) == ("old",)
    assert former(StoredRecord.SHARD, ["inner_new", "more"]) == ()
    assert former(StoredRecord.STEP, ["new"]) == ()


@pytest.mark.parametrize("version", [99, "2", None, 1.5])
def test_a_version_that_this_code_does_not_write_is_refused_by_name(version):
    with pytest.raises(UnreadableRecord, match=r"The record of shard 7 .* version .* deploy that one"):
        upgraded(StoredRecord.SHARD, {"schema_version": version}, "shard 7")


def test_a_rename_belongs_to_a_version_that_is_written():
    assert all(1 < each.version <= VERSIONS[record] for record, renames in RENAMES.items() for each in renames)
    assert VERSIONS.keys() == set(StoredRecord)
