"""Many uploads for few slots."""

import pytest

from prove.crowd import crowd


@pytest.mark.parametrize("seed", [1, 2])
def test_every_upload_of_a_crowd_runs_once_and_no_slot_is_lost(seed):
    report = crowd(uploads=60, slots=4, seed=seed)
    assert report.violations == []
    assert (report.runs, report.most_at_once, report.dead_letters) == (60, 4, 0)
    assert sum(report.kills.values()) > 3
