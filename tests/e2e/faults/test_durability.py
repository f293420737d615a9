"""What may be counted on when workers die, run out of time or meet poison: smaller versions of what is proved.

Each test runs a case of `prove/cases`, with a seed and with sizes for a test; the checker there is independent of the
pipeline, and says what it finds.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from prove.cases import process_poison, process_runs, process_workers
from prove.deployed import Deployed
from prove.registry import Trial
from prove.site import Site, watched

Proved = Callable[..., None]


@pytest.fixture(scope="module")
def site(cloud, client, cloud_home) -> Iterator[Site]:
    """The tests' deployment, with a provider that counts what it is asked."""
    with watched(Deployed(cloud, client, cloud_home)) as site:
        yield site


@pytest.fixture
def proved(site) -> Proved:
    """Run a case once, and raise what its checker finds."""

    def prove(case: Callable[..., None], **sizes: Any) -> None:
        trial = Trial(seed=7)
        case(trial, site, **sizes)
        assert trial.violations == []

    return prove


def test_a_step_whose_answer_was_stored_is_never_paid_again_whoever_is_killed(proved):
    proved(process_workers.steps_are_paid_once, records=24, seconds=0.2, kills=2)


def test_workers_that_are_killed_in_mid_job_cost_nothing_but_time(proved):
    proved(process_workers.kill_workers)


def test_a_chunk_may_take_many_times_as_long_as_its_function(proved):
    proved(process_workers.long_chunk, timeout=2, times=6)


def test_three_poisoned_chunks_of_a_hundred_are_named_and_once_mended_only_these_are_redriven(proved):
    proved(process_poison.redrive)


def test_a_cancelled_job_stops_within_seconds_and_keeps_what_is_done(proved):
    proved(process_runs.cancel)


def test_a_record_that_kills_its_worker_is_set_aside_and_its_siblings_go_on(proved):
    proved(process_poison.every_way, chosen=["exit"], siblings=7)


def test_a_record_that_holds_the_interpreter_is_ended_at_its_time_limit(proved):
    proved(process_poison.every_way, chosen=["regex", "sleep"], siblings=6)


def test_a_stopped_worker_that_goes_on_after_another_has_ended_changes_nothing(proved):
    proved(process_workers.stopped_worker)
