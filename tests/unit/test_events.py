"""Which states are announced, how, and what an event never says."""

from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest

from backhaul.model.events import DETAIL_TYPES, Detail, event_of
from backhaul.model.job import Cause, Job, JobRef, JobState, ObjectRef

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
JOB = Job(
    JobRef("T1", "0" * 26), JobState.SUCCEEDED, 4, "shout", {"key": "secret"}, "a.txt", 5, "ab" * 32, NOW, NOW, None,
    output=ObjectRef("out", "v1", 7), cause=Cause("c", "m", 3, "quotes the input"),
)  # fmt: skip


def test_these_states_are_announced_under_these_names():
    assert {state.value: name for state, name in DETAIL_TYPES.items()} == {
        "QUEUED": "Job Queued",
        "RUNNING": "Job Started",
        "SUCCEEDED": "Job Succeeded",
        "PARTIAL": "Job Partial",
        "PAUSED": "Job Paused",
        "FAILED": "Job Failed",
        "CANCELLED": "Job Cancelled",
        "EXPIRED": "Job Expired",
    }


def test_every_ending_is_announced():
    assert {state for state in JobState if state.is_terminal} <= DETAIL_TYPES.keys()


@pytest.mark.parametrize("state", sorted(set(JobState) - DETAIL_TYPES.keys()))
def test_other_states_are_not(state):
    assert event_of(replace(JOB, state=state), "data") is None


def test_the_id_is_that_of_the_change_and_the_time_is_when_it_happened():
    event = event_of(JOB, "data")
    assert event == event_of(JOB, "data")
    assert (event.detail.event_id, event.time) == (f"{'0' * 26}.4", NOW)
    assert event_of(replace(JOB, moves=5), "data").detail.event_id != event.detail.event_id


def test_an_event_tells_where_the_output_lies_and_not_what_a_processor_said():
    detail = event_of(JOB, "data").detail
    assert (detail.output.bucket, detail.output.key, detail.output.version_id, detail.output.size) == (
        "data", "out", "v1", 7,
    )  # fmt: skip
    assert detail.receipt is None
    assert detail.cause == Cause("c", "m", 3)


def test_options_and_checksums_stay_out_of_events():
    assert not {"options", "declared_sha256", "input"} & {item.name for item in fields(Detail)}


def test_an_event_says_which_run_of_the_job_it_is_about():
    assert [event_of(replace(JOB, run=run), "data").detail.run for run in (0, 1, 2)] == [0, 1, 2]
