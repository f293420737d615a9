"""What fell between two stages is found and mended, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from backhaul.job import JobState
from backhaul.stages import sweep as sweeping
from backhaul.store import RunStore
from backhaul.task import RunTask

DATA = b"one line\n"


def stay_queued(deployment):
    """A job whose dispatcher crashed before the run was ordered."""
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    due_at = deployment.clock.now() + timedelta(minutes=5)
    deployment.store.jobs.move(ref, JobState.QUEUED, input=upload.object, due_at=due_at)
    return ref


def never_begin(deployment):
    """A job whose dispatcher crashed after the run was ordered and before it was started."""
    ref = stay_queued(deployment)
    due_at = deployment.clock.now() + timedelta(minutes=5)
    deployment.store.jobs.move(ref, JobState.RUNNING, run=1, started_at=deployment.clock.now(), due_at=due_at)
    return ref


def test_a_sweep_with_nothing_to_do_does_nothing(deployment):
    deployment.submit("text-stats", DATA)
    stay_queued(deployment)
    deployment.start("text-stats", DATA)
    before = len(deployment.stream())
    assert deployment.sweep() == {}
    assert len(deployment.stream()) == before


def test_an_upload_that_never_came_expires_its_job_after_the_window(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    deployment.clock.advance(seconds=3600 + 15 * 60 - 1)
    assert deployment.sweep() == {}
    deployment.clock.advance(seconds=1)
    assert deployment.sweep() == {"expired": 1}
    job = deployment.job(ref)
    assert (job.state, job.cause.code, job.due_at) == (JobState.EXPIRED, "upload_missing", None)
    assert job.ended_at == deployment.clock.now()


def test_an_upload_that_was_claimed_in_the_same_moment_is_not_expired(deployment, monkeypatch):
    ref = deployment.submit("text-stats", DATA).job.ref
    deployment.clock.advance(hours=2)
    seen = deployment.store.jobs.due(JobState.AWAITING_UPLOAD, 10)
    deployment.dispatch(deployment.put_input(ref, DATA))
    monkeypatch.setattr(deployment.store.jobs, "due", lambda state, _: seen if state == seen[0].state else ())
    assert deployment.sweep() == {"claimed": 1}
    assert deployment.job(ref).state is JobState.RUNNING
    assert len(deployment.executions()) == 1


def test_an_upload_whose_event_was_lost_is_found_and_run(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"claimed": 1}
    job = deployment.job(ref)
    assert (job.state, job.input) == (JobState.RUNNING, upload.object)
    assert deployment.sweep() == {}
    assert deployment.finish(RunTask(ref, job.run)).state is JobState.SUCCEEDED


def test_a_queued_job_that_nobody_started_is_started(deployment):
    ref = stay_queued(deployment)
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"started": 1}
    assert (deployment.job(ref).state, deployment.job(ref).run) == (JobState.RUNNING, 1)
    assert len(deployment.executions()) == 1


def test_a_run_that_was_ordered_and_never_began_is_started(deployment):
    ref = never_begin(deployment)
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"started": 1}
    (execution,) = deployment.executions()
    assert execution.name == f"{ref.job_id}-1"
    assert deployment.job(ref).due_at == deployment.clock.now() + timedelta(minutes=5)


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
@pytest.mark.parametrize("merging", [False, True])
def test_a_run_that_died_unheard_fails_its_job_with_the_cause(deployment, status, merging):
    task = deployment.start("text-stats", DATA)
    if merging:
        deployment.store.jobs.move(task.job, JobState.MERGING, due_at=deployment.clock.now())
    deployment.end_run(status, "States.Runtime", "x" * 1000)
    deployment.clock.advance(minutes=30)
    assert deployment.sweep() == {"failed": 1}
    job = deployment.job(task.job)
    assert (job.state, job.cause.code) == (JobState.FAILED, "run_lost")
    assert f"{status} with States.Runtime" in job.cause.message
    assert job.cause.detail == "x" * 500
    assert deployment.sweep() == {}


def test_a_run_that_succeeded_without_ending_its_job_fails_it(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.end_run("SUCCEEDED")
    deployment.clock.advance(minutes=30)
    deployment.sweep()
    assert "ended as SUCCEEDED without saying so" in deployment.job(task.job).cause.message


def test_a_merging_job_without_a_run_fails(deployment):
    ref = never_begin(deployment)
    deployment.store.jobs.move(ref, JobState.MERGING, due_at=deployment.clock.now())
    assert deployment.sweep() == {"failed": 1}
    assert "ABSENT" in deployment.job(ref).cause.message


def test_a_live_run_is_left_alone_and_looked_at_later(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"live": 1}
    assert deployment.sweep() == {}
    job = deployment.job(task.job)
    assert (job.state, job.moves) == (JobState.RUNNING, 2)
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"live": 1}


def test_an_index_that_is_behind_does_no_harm(deployment, monkeypatch):
    """The index of due jobs is eventually consistent: the sweep may see a job as it was."""
    task = deployment.start("text-stats", DATA)
    stale = deployment.job(task.job)
    ended = deployment.finish(task)
    deployment.end_run("SUCCEEDED")
    for state in (JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.RUNNING):
        seen = replace(stale, state=state, run=stale.run if state is JobState.RUNNING else 0)
        monkeypatch.setattr(
            deployment.store.jobs, "due", lambda wanted, _, seen=seen: (seen,) if wanted is seen.state else ()
        )
        deployment.sweep()
    assert deployment.job(task.job) == ended
    assert len(deployment.executions()) == 1


def test_sweeping_again_and_again_changes_nothing_more(deployment):
    refs = [deployment.submit("text-stats", DATA).job.ref, stay_queued(deployment), never_begin(deployment)]
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"expired": 1, "started": 2}
    jobs = [deployment.job(ref) for ref in refs]
    assert deployment.sweep() == {}
    assert [deployment.job(ref) for ref in refs] == jobs
    assert len(deployment.executions()) == 2


def test_one_sweep_looks_at_so_many_jobs_of_a_state_and_the_next_at_the_rest(deployment, monkeypatch):
    monkeypatch.setattr(sweeping, "JOBS_MOST", 3)
    for _ in range(5):
        deployment.submit("text-stats", DATA)
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"expired": 3}
    assert deployment.sweep() == {"expired": 2}


def test_a_job_that_cannot_be_mended_keeps_no_other_from_it(deployment, monkeypatch):
    bad = stay_queued(deployment)
    deployment.clock.advance(seconds=1)
    good = stay_queued(deployment)
    deployment.clock.advance(minutes=5)
    start = RunStore.start

    def refuse(self, job):
        if job.ref == bad:
            raise OSError("refused")
        start(self, job)

    monkeypatch.setattr(RunStore, "start", refuse)
    with pytest.raises(ExceptionGroup) as raised:
        deployment.sweep()
    (problem,) = raised.value.exceptions
    assert bad.job_id in problem.__notes__[0]
    assert [each.name for each in deployment.executions()] == [f"{good.job_id}-1"]
