"""Paid calls on the local cloud: smaller versions of what is proved, with a strict provider over HTTP."""

from collections.abc import Iterator

import pytest

from prove.cases import process_calls
from prove.deployed import Deployed
from prove.registry import Trial
from prove.site import Site, watched


@pytest.fixture(scope="module")
def site(cloud, client, cloud_home) -> Iterator[Site]:
    """The tests' deployment."""
    with watched(Deployed(cloud, client, cloud_home)) as site:
        yield site


def test_a_job_at_a_providers_limit_is_complete_and_waits_outside_of_its_functions(site):
    trial = Trial(seed=7)
    process_calls.pace(trial, site, records=40, share=0.0, lateness=2.0)
    assert trial.violations == []


def test_a_job_whose_money_is_spent_is_paused_and_goes_on_with_more_and_pays_nothing_twice(site):
    trial = Trial(seed=7)
    process_calls.budget(trial, site, records=60)
    assert trial.violations == []


def test_what_a_killed_worker_was_answered_is_not_paid_for_again(site):
    trial = Trial(seed=7)
    process_calls.killed(trial, site, records=60, kills=2)
    assert trial.violations == []
