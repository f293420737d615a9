"""A job's states, the moves between them, and its ID."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from backhaul.model.api import JobView, progress_of
from backhaul.model.job import MOVES, Counts, Job, JobRef, JobState, new_job_id

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_every_state_has_its_moves():
    assert set(MOVES) == set(JobState)


def test_exactly_these_states_are_terminal():
    terminal = {state for state in JobState if state.is_terminal}
    assert {state.value for state in terminal} == {"SUCCEEDED", "PARTIAL", "PAUSED", "FAILED", "CANCELLED", "EXPIRED"}


def test_jobs_begin_by_awaiting_their_upload_and_never_come_back_to_it():
    assert JobState.AWAITING_UPLOAD.predecessors == frozenset()


def test_every_state_can_be_reached_and_every_open_state_can_end():
    reached, todo = set(), [JobState.AWAITING_UPLOAD]
    while todo:
        state = todo.pop()
        reached.add(state)
        todo += MOVES[state] - reached
    assert reached == set(JobState)
    for state in JobState:
        if not state.is_terminal:
            assert JobState.FAILED in MOVES[state]


def test_what_waits_can_be_cancelled_and_what_runs_only_by_its_merge():
    waiting_or_merging = {JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.MERGING}
    assert JobState.CANCELLED.predecessors == waiting_or_merging | {JobState.PAUSED}


def test_what_has_ended_with_something_missing_can_be_queued_again_and_moves_nowhere_else():
    redriven = {state for state in JobState if state.is_terminal and MOVES[state]}
    assert redriven == {JobState.PARTIAL, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}
    assert all(MOVES[state] - {JobState.CANCELLED} == {JobState.QUEUED} for state in redriven)
    assert JobState.QUEUED.predecessors == {JobState.AWAITING_UPLOAD} | redriven


def test_predecessors_are_the_moves_read_backwards():
    for state in JobState:
        for target in JobState:
            assert (target in MOVES[state]) == (state in target.predecessors)


def test_only_a_merge_can_succeed():
    assert JobState.SUCCEEDED.predecessors == JobState.PARTIAL.predecessors == {JobState.MERGING}


def test_job_ids_are_26_characters_that_no_key_or_url_minds():
    assert re.fullmatch(r"[0-9a-hjkmnp-tv-z]{26}", new_job_id(NOW))


def test_job_ids_sort_by_time_to_the_millisecond():
    moments = [NOW + timedelta(milliseconds=step) for step in (0, 1, 999, 86_400_000, 10**12)]
    ids = [new_job_id(moment) for moment in moments]
    assert ids == sorted(ids)


def test_a_job_id_holds_the_moment_whatever_the_time_zone():
    elsewhere = NOW.astimezone(timezone(timedelta(hours=9)))
    assert new_job_id(NOW)[:10] == new_job_id(elsewhere)[:10]


def test_job_ids_of_one_moment_differ():
    assert len({new_job_id(NOW) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    ("state", "counts", "progress"),
    [
        (JobState.AWAITING_UPLOAD, Counts(), 0),
        (JobState.RUNNING, Counts(), 0),
        (JobState.RUNNING, Counts(chunks=3, chunks_done=1), 0.3333),
        (JobState.RUNNING, Counts(chunks=4, chunks_done=1, chunks_failed=1), 0.5),
        (JobState.MERGING, Counts(chunks=4, chunks_done=4), 1),
        (JobState.SUCCEEDED, Counts(), 1),
        (JobState.PARTIAL, Counts(chunks=4, chunks_done=1), 1),
        (JobState.FAILED, Counts(chunks=4, chunks_done=1), 0.25),
    ],
)
def test_progress_is_the_share_of_chunks_that_are_settled(state, counts, progress):
    assert progress_of(state, counts) == progress


def test_a_view_tells_the_owner_everything_but_where_things_lie():
    job = Job(JobRef("T1", "j"), JobState.QUEUED, 1, "p", {}, "f", 5, None, NOW, NOW, NOW)
    view = JobView.of(job)
    assert (view.job_id, view.upload_until, view.counts) == ("j", None, Counts())
    assert not {"input", "output", "receipt", "tenant", "ref"} & set(view.__dict__)
