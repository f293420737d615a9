"""Shards that wait for hours, on the local cloud: their tokens, and who ends their waits."""

import time
from collections.abc import Iterator

import pytest

from prove.cases.process_calls import asking
from prove.deployed import Deployed, eventually
from prove.registry import Trial
from prove.site import Site, watched

HOURS = 5 * 3600


@pytest.fixture(scope="module")
def site(cloud, client, cloud_home) -> Iterator[Site]:
    """The tests' deployment."""
    with watched(Deployed(cloud, client, cloud_home)) as site:
        yield site


def waiting(it, records=8):
    """Submit a job whose shards wait for a provider that wants to be asked again in five hours."""
    it.fake.control(outage="unavailable", seconds=HOURS, retry_after=HOURS)
    job = it.submit(records, shards=2)
    eventually(lambda: it.deployed._table("FlowTableName", f"WAITS#J#{it.deployed.tenant}#{job.id}"))
    return job


def test_a_job_whose_shards_wait_for_hours_ends_within_ten_seconds_when_it_is_cancelled(site):
    with asking(site) as it:
        job = waiting(it)
        time.sleep(5)
        began = time.monotonic()
        site.deployed.client.cancel(job.id)
        ended = site.deployed.ended(job.id, seconds=30)
        assert ended.state == "CANCELLED"
        assert time.monotonic() - began < 10


def test_a_job_whose_shards_wait_for_hours_goes_on_when_an_operator_changes_the_provider(site):
    with asking(site) as it:
        job = waiting(it)
        it.fake.control(reset=True, outage=None)
        began = time.monotonic()
        it.set(timeout_seconds=11)
        trial = Trial(seed=7)
        job.settled(trial, seconds=60)
        assert trial.violations == []
        assert time.monotonic() - began < 40
