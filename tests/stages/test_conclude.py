"""What Step Functions says of a worker or a run that died ends nothing twice and hides nothing."""

import pytest

from backhaul.model.job import Cause, JobState
from backhaul.model.task import RunTask
from backhaul.stages.conclude import cause_of, conclude_run, conclude_shard

DATA = b"".join(b"line %04d\n" % number for number in range(100))


@pytest.fixture
def task(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 500})
    deployment.plan(task)
    return task


def conclude(deployment, task, cause=None):
    return conclude_run(task, cause or cause_of("States.Timeout", ""), jobs=deployment.store.jobs)


def test_a_run_that_died_fails_its_job_with_the_cause(deployment, task):
    job = conclude(deployment, task, cause_of("Lambda.Unknown", "y" * 1000))
    assert (job.state, job.due_at) == (JobState.FAILED, None)
    assert job.cause == Cause("run_failed", "The run ended with Lambda.Unknown.", detail="y" * 500)


def test_a_run_that_died_of_nothing_known_says_so():
    assert cause_of("", "") == Cause("run_failed", "The run ended with unknown error.")


def test_a_run_that_died_while_merging_fails_its_job(deployment, task):
    deployment.store.jobs.move(deployment.job(task.job), JobState.MERGING, due_at=deployment.clock.now())
    assert conclude(deployment, task).state is JobState.FAILED


def test_the_first_cause_stays(deployment, task):
    first = conclude(deployment, task, cause_of("States.Timeout", ""))
    assert conclude(deployment, task, cause_of("ABORTED", "")) is None
    assert deployment.job(task.job) == first


def test_a_late_word_of_a_run_changes_no_ended_job(deployment, task):
    ended = deployment.finish(task)
    assert ended.state is JobState.SUCCEEDED
    assert conclude(deployment, task) is None
    assert deployment.job(task.job) == ended


def test_a_word_of_another_run_changes_nothing(deployment, task):
    before = deployment.job(task.job)
    assert conclude(deployment, RunTask(task.job, 2)) is None
    assert deployment.job(task.job) == before


def test_nothing_comes_after_a_run_that_was_concluded(deployment, task):
    shard, *_ = deployment.shard_tasks(task)
    failed = conclude(deployment, task)
    assert deployment.process(shard).work.chunks == 0
    assert deployment.plan(task).outcome == "ended"
    assert deployment.merge(task) == failed


def died(deployment, shard, error="Runtime.ExitError", cause="out of memory"):
    conclude_shard(shard, error, cause, jobs=deployment.store.jobs, shards=deployment.store.shards)


def test_a_shard_whose_workers_died_is_missing_from_the_output_and_the_receipt_says_why(deployment, task):
    dead, *alive = deployment.shard_tasks(task)
    died(deployment, dead)
    for shard in alive:
        deployment.process(shard)
    job = deployment.merge(task)
    assert (job.state, job.cause.code, job.cause.detail) == (JobState.PARTIAL, "chunks_missing", "out of memory")
    missing = deployment.receipt(job)["missing"]
    assert [chunk["index"] for chunk in missing] == [chunk.index for chunk in dead.shard.chunks]
    assert missing[0]["cause"] == {
        "code": "worker_died",
        "message": "Every worker on the shard died; the last one with Runtime.ExitError.",
        "position": None,
        "detail": "out of memory",
    }


def test_a_job_whose_workers_all_died_is_failed(deployment, task):
    for shard in deployment.shard_tasks(task):
        died(deployment, shard, error="")
    job = deployment.merge(task)
    assert (job.state, job.cause.code) == (JobState.FAILED, "worker_died")
    assert "unknown error" in job.cause.message


def test_what_a_worker_committed_before_it_died_is_kept(deployment, task):
    deployment.remaining = 0
    shards = deployment.shard_tasks(task)
    for shard in shards:
        while deployment.process(shard).outcome == "continue":
            pass
    died(deployment, shards[0])
    assert deployment.merge(task).state is JobState.SUCCEEDED


def test_a_word_of_a_finished_shard_changes_nothing(deployment, task):
    shard, *_ = deployment.shard_tasks(task)
    deployment.process(shard)
    before = list(deployment.store.shards.all(task.job))
    died(deployment, shard)
    assert list(deployment.store.shards.all(task.job)) == before


def test_the_same_word_twice_is_recorded_once(deployment, task):
    shard, *_ = deployment.shard_tasks(task)
    died(deployment, shard)
    once = list(deployment.store.shards.all(task.job))
    died(deployment, shard)
    assert list(deployment.store.shards.all(task.job)) == once


def test_a_worker_that_comes_after_the_word_still_finishes_the_shard(deployment, task):
    for shard in deployment.shard_tasks(task):
        died(deployment, shard)
        deployment.process(shard)
    job = deployment.merge(task)
    assert (job.state, deployment.receipt(job)["missing"]) == (JobState.SUCCEEDED, [])
