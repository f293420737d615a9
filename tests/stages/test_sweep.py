"""What fell between two stages is found and mended, once."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import boto3
import pytest
from botocore.client import BaseClient

from backhaul.admission.admission import Admission
from backhaul.model import keys
from backhaul.model.errors import UnreadableRecord
from backhaul.model.job import JobState
from backhaul.model.policy import Policy
from backhaul.model.task import RunTask
from backhaul.stages import sweep as sweeping
from backhaul.stages.sweep import mend_lost
from backhaul.store import RunStatus, RunStore
from backhaul.store.codec import arguments, naming, setting
from tests.infra.idle import SWEEP_READS
from tests.shout import Shout

DATA = b"one line\n"


def stay_queued(deployment):
    """A job whose dispatcher crashed before it took a slot."""
    job = deployment.submit("text-stats", DATA).job
    upload = deployment.put_input(job.ref, DATA)
    store = deployment.store
    Admission(store.jobs, store.runs, store.slots, deployment.clock).claim(job, upload.object)
    return job.ref


def never_begin(deployment):
    """A job whose dispatcher crashed after it had its slot and before its run was started."""
    ref = stay_queued(deployment)
    now = deployment.clock.now()
    assert deployment.store.slots.take(ref, 5, 1)
    due_at = now + timedelta(minutes=5)
    deployment.store.jobs.move(deployment.job(ref), JobState.RUNNING, started_at=now, due_at=due_at)
    return ref


def end_run(deployment, name, status):
    """Let the execution of this name end without a word to anybody."""
    (execution,) = (each for each in deployment.executions() if each.name == name)
    execution.status, execution.error, execution.cause = status, None, None


def test_a_sweep_with_nothing_to_do_does_nothing(deployment):
    deployment.submit("text-stats", DATA)
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
    monkeypatch.setattr(deployment.store.jobs, "due", lambda state, *_: seen if state == seen[0].state else ())
    assert deployment.sweep() == {"claimed": 1}
    assert deployment.job(ref).state is JobState.RUNNING
    assert len(deployment.executions()) == 1


def test_an_upload_whose_event_was_lost_is_found_and_run(deployment):
    ref = deployment.submit("text-stats", DATA).job.ref
    upload = deployment.put_input(ref, DATA)
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"claimed": 1, "started": 1}
    job = deployment.job(ref)
    assert (job.state, job.input) == (JobState.RUNNING, upload.object)
    assert deployment.sweep() == {}
    assert deployment.finish(RunTask(ref, job.run)).state is JobState.SUCCEEDED


def test_a_queued_job_that_nobody_started_is_started(deployment):
    ref = stay_queued(deployment)
    assert deployment.sweep() == {"started": 1}
    assert (deployment.job(ref).state, deployment.job(ref).run) == (JobState.RUNNING, 1)
    assert len(deployment.executions()) == 1


def test_a_run_that_was_ordered_and_never_began_is_started(deployment):
    ref = never_begin(deployment)
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"restarted": 1}
    (execution,) = deployment.executions()
    assert execution.name == f"{ref.job_id}-1"
    assert deployment.job(ref).due_at == deployment.clock.now() + timedelta(minutes=5)


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
@pytest.mark.parametrize("merging", [False, True])
def test_a_run_that_died_unheard_is_merged_by_another_and_says_why(deployment, status, merging):
    task = deployment.start("text-stats", DATA)
    if merging:
        deployment.store.jobs.move(deployment.job(task.job), JobState.MERGING, due_at=deployment.clock.now())
    deployment.end_run(status, "States.Runtime", "x" * 1000)
    deployment.clock.advance(minutes=30)
    assert deployment.sweep() == {"salvaged": 1}
    salvage = deployment.executions()[-1]
    assert salvage.name == f"{task.job.job_id}-1-salvage"
    assert json.loads(salvage.execution_input) == {
        "schema_version": 1, "tenant": task.job.tenant, "job_id": task.job.job_id, "run": 1, "salvage": True,
    }  # fmt: skip
    assert deployment.sweep() == {}
    job = deployment.merge(task)
    assert (job.state, job.cause.code) == (JobState.FAILED, "run_lost")
    assert f"{status} with States.Runtime" in job.cause.message
    assert job.cause.detail == "x" * 500
    deployment.hand_on(task.job)
    assert deployment.sweep() == {}


def test_what_a_lost_run_had_committed_is_its_output_and_the_rest_is_named_with_why(deployment):
    data = b"".join(b"line %04d\n" % number for number in range(40))
    deployment = deployment.with_processors(Shout)
    task = deployment.start("shout", data, options={"chunk_bytes": 100})
    deployment.plan(task)
    first, *others = deployment.shard_tasks(task)
    deployment.process(first)
    deployment.end_run("TIMED_OUT")
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaged": 1}
    assert all(deployment.process(other).work.chunks == 0 for other in others), "a salvaged run does no more work"
    job = deployment.merge(task)
    assert (job.state, deployment.read(job.output)) == (JobState.PARTIAL, data[:100].upper())
    assert {chunk["cause"]["code"] for chunk in deployment.receipt(job)["missing"]} == {"run_lost"}
    assert len(deployment.dead_letters()) == 3


def test_a_lost_run_of_which_all_was_committed_succeeds(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.plan(task)
    for shard in deployment.shard_tasks(task):
        deployment.process(shard)
    deployment.end_run("FAILED")
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaged": 1}
    assert deployment.merge(task).state is JobState.SUCCEEDED


def test_a_salvage_at_work_is_left_alone_and_one_that_is_lost_as_well_fails_the_job(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.end_run("FAILED", "States.Runtime")
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaged": 1}
    for _ in range(2):
        deployment.clock.advance(minutes=5)
        assert deployment.sweep() == {"salvaging": 1}
    assert len(deployment.executions()) == 2
    end_run(deployment, f"{task.job.job_id}-1-salvage", "FAILED")
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"failed": 1, "freed_slot": 1}
    job = deployment.job(task.job)
    assert (job.state, job.cause.code) == (JobState.FAILED, "run_lost")
    assert deployment.sweep() == {}


def test_a_run_that_succeeded_without_ending_its_job_is_merged_by_another(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.end_run("SUCCEEDED")
    deployment.clock.advance(minutes=30)
    assert deployment.sweep() == {"salvaged": 1}
    assert "ended as SUCCEEDED before it could record its result" in deployment.merge(task).cause.message


def test_a_merging_job_without_a_run_is_merged_by_another(deployment):
    ref = never_begin(deployment)
    deployment.store.jobs.move(deployment.job(ref), JobState.MERGING, due_at=deployment.clock.now())
    assert deployment.sweep() == {"salvaged": 1}
    assert "ABSENT" in deployment.job(ref).stop.cause.message


def test_a_run_that_is_lost_after_its_job_was_cancelled_ends_as_cancelled(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.cancel(task.job, "enough")
    deployment.end_run("ABORTED")
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaged": 1}
    job = deployment.merge(task)
    assert (job.state, job.cause.message) == (JobState.CANCELLED, "The job was cancelled: enough")


def test_a_live_run_is_left_alone_and_looked_at_later(deployment):
    task = deployment.start("text-stats", DATA)
    for _ in range(2):
        deployment.clock.advance(minutes=5)
        assert deployment.sweep() == {}
        job = deployment.job(task.job)
        assert (job.state, job.moves) == (JobState.RUNNING, 2)
        assert job.due_at == deployment.clock.now() + timedelta(minutes=5)
    assert len(deployment.executions()) == 1


def test_a_job_past_its_deadline_is_asked_to_stop_and_ends_with_what_is_done(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 4}, policy=Policy(deadline_seconds=3600))
    deployment.plan(task)
    first, *others = deployment.shard_tasks(task)
    deployment.process(first)
    deployment.clock.advance(seconds=3600)
    assert (deployment.sweep(), deployment.swept().past_deadline) == ({}, 0)
    deployment.clock.advance(seconds=1)
    assert deployment.sweep() == {"stopped": 1}
    assert (deployment.sweep(), deployment.swept().past_deadline) == ({}, 0)
    assert all(deployment.process(other).work.chunks == 0 for other in others)
    job = deployment.merge(task)
    assert job.state is JobState.PARTIAL
    assert deployment.receipt(job)["missing"][0]["cause"] == {
        "code": "deadline_passed", "message": "The job's deadline of 3,600 s has passed.",
        "position": None, "detail": None,
    }  # fmt: skip


def test_a_job_that_neither_heeds_its_deadline_nor_can_be_ended_is_counted_half_an_hour_later(deployment, monkeypatch):
    monkeypatch.setattr(RunStore, "stop", lambda *_, **__: None)
    deployment.start("text-stats", DATA, policy=Policy(deadline_seconds=3600))
    deployment.clock.advance(hours=1, minutes=30)
    assert deployment.swept().past_deadline == 0
    deployment.clock.advance(seconds=1)
    assert deployment.swept().past_deadline == 1


@pytest.mark.parametrize("state", [JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.RUNNING, JobState.MERGING])
def test_a_job_that_this_version_cannot_read_keeps_no_other_from_being_mended(deployment, monkeypatch, state):
    monkeypatch.setattr(sweeping, "MAX_JOBS", 1)  # so that it fills a page by itself, the first one
    odd, *others = [deployment.submit("text-stats", DATA).job.ref for _ in range(3)]
    policy = "no policy" if state is JobState.MERGING else {"of_a_later_version": True}
    place = {"queue": "queued", "turn": "0#0000000001#x"} if state is JobState.QUEUED else {}
    written = {"policy": policy, "state": state, "open_state": state, "due_at": deployment.clock.now()} | place
    boto3.client("dynamodb").update_item(
        TableName="jobs",
        Key={"pk": {"S": keys.partition(odd)}, "sk": {"S": keys.JOB_SORT_KEY}},
        UpdateExpression=setting(written),
        ExpressionAttributeNames=naming(written),
        ExpressionAttributeValues=arguments(written),
    )
    deployment.clock.advance(hours=2)
    for left in (1, 0):
        swept = deployment.swept()
        states = [deployment.job(ref).state for ref in others]
        assert (swept.mended["expired"], states.count(JobState.AWAITING_UPLOAD)) == (1, left)
        with pytest.raises(ExceptionGroup) as told:
            swept.raise_problems()
        assert {type(problem) for problem in told.value.exceptions} == {UnreadableRecord}
        assert all(odd.job_id in str(problem) for problem in told.value.exceptions)
    assert deployment.store.slots.get().members == set()


def test_a_redrive_has_a_deadline_of_its_own(deployment):
    task = deployment.start("text-stats", DATA, policy=Policy(deadline_seconds=3600))
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"stopped": 1}
    deployment.merge(task)
    deployment.clock.advance(hours=2)
    again = deployment.redrive(task.job).job
    assert (again.state, again.stop) == (JobState.RUNNING, None)
    assert again.deadline_at == deployment.clock.now() + timedelta(hours=1)
    assert deployment.sweep() == {}


def test_a_run_that_does_not_stop_within_twenty_minutes_is_aborted_and_salvaged(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.cancel(task.job)
    deployment.clock.advance(minutes=20)
    assert deployment.sweep() == {}
    deployment.clock.advance(minutes=1)
    assert deployment.sweep() == {"aborted_run": 1}
    assert [each.status for each in deployment.executions()] == ["ABORTED"]
    assert deployment.sweep() == {}
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaged": 1}
    assert deployment.merge(task).state is JobState.CANCELLED


def test_what_step_functions_says_of_a_run_that_the_sweep_aborted_fails_no_cancelled_job(deployment):
    """The rule on runs that ended badly hears of it before the sweep looks again."""
    task = deployment.start("text-stats", DATA)
    deployment.cancel(task.job)
    deployment.clock.advance(minutes=21)
    assert deployment.sweep() == {"aborted_run": 1}
    assert hear_of(deployment, task, "ABORTED") == "salvaged"
    assert hear_of(deployment, task, "ABORTED") == "salvaging"
    assert deployment.merge(task).state is JobState.CANCELLED
    assert hear_of(deployment, task, "ABORTED") is None


def hear_of(deployment, task, status):
    """What comes of Step Functions' own word on the end of a run."""
    said = RunStatus(status, "States.Runtime", "said")
    return mend_lost(task, said, jobs=deployment.store.jobs, runs=deployment.store.runs, clock=deployment.clock)


def test_a_run_of_which_is_said_that_it_was_lost_is_salvaged_at_once_and_its_salvage_once(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.end_run("FAILED", "States.Runtime")
    assert hear_of(deployment, task, "FAILED") == "salvaged"
    deployment.clock.advance(minutes=5)
    assert deployment.sweep() == {"salvaging": 1}
    end_run(deployment, f"{task.job.job_id}-1-salvage", "TIMED_OUT")
    assert hear_of(deployment, task, "TIMED_OUT") == "failed"
    job = deployment.job(task.job)
    assert (job.state, job.cause.code) == (JobState.FAILED, "run_lost")
    assert len(deployment.executions()) == 2


def test_a_word_of_an_earlier_run_salvages_nothing_of_the_next(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.end_run("FAILED")
    deployment.store.jobs.move(deployment.job(task.job), JobState.FAILED)
    again = deployment.redrive(task.job).job
    assert hear_of(deployment, task, "FAILED") is None
    assert deployment.job(task.job) == again


def test_a_shard_without_a_sign_of_life_is_counted_until_another_worker_takes_it(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    deployment.store.shards.claim(task.job, shard.shard, task.run)
    deployment.clock.advance(seconds=30)
    assert deployment.swept().stalled_shards == 0
    deployment.clock.advance(seconds=1)
    assert deployment.swept().stalled_shards == 1
    deployment.process(shard)
    deployment.clock.advance(minutes=2)
    assert deployment.swept().stalled_shards == 0


def test_a_sweep_of_an_idle_deployment_asks_for_no_more_than_the_idle_cost_counts(deployment, monkeypatch):
    asked: Counter[tuple[str, bool]] = Counter()
    real = BaseClient._make_api_call

    def counted(self, name, request):
        asked[name, request.get("ConsistentRead", False)] += 1
        return real(self, name, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", counted)
    assert deployment.sweep() == {}
    assert asked == SWEEP_READS


def test_an_index_that_is_behind_does_no_harm(deployment, monkeypatch):
    """The index of due jobs is eventually consistent: the sweep may see a job as it was."""
    task = deployment.start("text-stats", DATA)
    stale = deployment.job(task.job)
    ended = deployment.finish(task)
    deployment.end_run("SUCCEEDED")
    deployment.hand_on(ended.ref)
    for state in (JobState.AWAITING_UPLOAD, JobState.QUEUED, JobState.RUNNING):
        seen = replace(stale, state=state, run=stale.run if state is JobState.RUNNING else 0)
        monkeypatch.setattr(
            deployment.store.jobs, "due", lambda wanted, *_, seen=seen: (seen,) if wanted is seen.state else ()
        )
        deployment.sweep()
    assert deployment.job(task.job) == ended
    assert len(deployment.executions()) == 1


def test_a_sweep_that_saw_an_earlier_run_salvages_nothing_of_the_next(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA)
    stale = deployment.job(task.job)
    deployment.end_run("FAILED")
    deployment.store.jobs.move(stale, JobState.FAILED)
    again = deployment.redrive(task.job).job
    monkeypatch.setattr(deployment.store.jobs, "due", lambda state, *_: (stale,) if state is stale.state else ())
    deployment.sweep()
    assert deployment.job(task.job) == again
    assert [each.name for each in deployment.executions()] == [f"{task.job.job_id}-1", f"{task.job.job_id}-2"]


def test_sweeping_again_and_again_changes_nothing_more(deployment):
    refs = [deployment.submit("text-stats", DATA).job.ref, stay_queued(deployment), never_begin(deployment)]
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"expired": 1, "started": 1, "restarted": 1}
    jobs = [deployment.job(ref) for ref in refs]
    assert deployment.sweep() == {}
    assert [deployment.job(ref) for ref in refs] == jobs
    assert len(deployment.executions()) == 2


def test_one_sweep_looks_at_so_many_jobs_of_a_state_and_the_next_at_the_rest(deployment, monkeypatch):
    monkeypatch.setattr(sweeping, "MAX_JOBS", 3)
    for _ in range(5):
        deployment.submit("text-stats", DATA)
    deployment.clock.advance(hours=2)
    assert deployment.sweep() == {"expired": 3}
    assert deployment.sweep() == {"expired": 2}


def test_a_job_that_cannot_be_mended_keeps_no_other_from_it(deployment, monkeypatch):
    bad = never_begin(deployment)
    deployment.clock.advance(seconds=1)
    good = never_begin(deployment)
    waiting = stay_queued(deployment)
    deployment.clock.advance(minutes=5)
    start = RunStore.start

    def refuse(self, job, **salvage):
        if job.ref == bad:
            raise OSError("refused")
        start(self, job, **salvage)

    monkeypatch.setattr(RunStore, "start", refuse)
    swept = deployment.swept()
    (problem,) = swept.problems
    assert bad.job_id in problem.__notes__[0]
    with pytest.raises(ExceptionGroup, match="some jobs cannot be mended"):
        swept.raise_problems()
    started = [f"{good.job_id}-1", f"{waiting.job_id}-1"]
    assert [each.name for each in deployment.executions()] == started


def test_the_new_run_of_a_job_that_was_redriven_behind_the_index_is_not_salvaged(deployment, monkeypatch):
    """The index shows the job as it was in its first run, whose execution has ended."""
    task = deployment.start("text-stats", DATA)
    deployment.plan(task)
    seen = deployment.job(task.job)
    assert deployment.merge(task).state is JobState.FAILED
    end_run(deployment, f"{task.job.job_id}-1", "SUCCEEDED")
    redriven = deployment.redrive(task.job).job
    assert (redriven.state, redriven.run) == (JobState.RUNNING, 2)
    monkeypatch.setattr(deployment.store.jobs, "due", lambda state, *_: (seen,) if state is seen.state else ())
    assert deployment.sweep() == {}
    assert [each.name for each in deployment.executions()] == [f"{task.job.job_id}-1", f"{task.job.job_id}-2"]
    assert deployment.job(task.job) == redriven
