"""Questions about jobs: answered to their owner, and to nobody else."""

from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pytest

from backhaul.model.api import JobView
from backhaul.model.errors import ForeignObject, InvalidRequest, JobNotFound, ResultNotReady, RunNotFound
from backhaul.model.job import Cause, JobRef, JobState
from backhaul.model.task import RunTask
from backhaul.stages.inquire import job_receipt, job_result, job_status, list_jobs
from backhaul.store import job_index as job_records
from backhaul.store.job_item import item_of

DATA = b"".join(b"line %04d\n" % number for number in range(100))


def status(deployment, ref):
    return asked(deployment, ref).job


def asked(deployment, ref):
    store = deployment.store
    return job_status(
        ref, jobs=store.jobs, shards=store.shards, slots=store.slots, budgets=store.budgets, clock=deployment.clock
    )


def result(deployment, ref, ask=job_result, run=None):
    return ask(ref, run=run, jobs=deployment.store.jobs, objects=deployment.store.objects, settings=deployment.settings)


def listed(deployment, tenant, *, state=None, after=None, limit=20):
    return list_jobs(tenant, state=state, after=after, limit=limit, jobs=deployment.store.jobs)


def submit(deployment, tenant="T1"):
    deployment.clock.advance(seconds=1)
    return deployment.submit("text-stats", DATA, tenant=tenant).job.ref


def test_another_tenants_job_looks_exactly_like_a_missing_one(deployment):
    theirs = submit(deployment, "T1")
    missing = JobRef("T10", "0" * 26)
    for ask in (status, result, lambda *args: result(*args, ask=job_receipt)):
        answers = []
        for ref in (JobRef("T10", theirs.job_id), missing):
            with pytest.raises(JobNotFound) as raised:
                ask(deployment, ref)
            answers.append((type(raised.value), str(raised.value).replace(ref.job_id, "")))
        assert answers[0] == answers[1]


@pytest.mark.parametrize("job_id", ["", "x", "0" * 27, "0" * 5000, "../T2", "JOB", "#", "é" * 26, "0" * 25 + "\n"])
def test_what_is_no_job_id_is_a_missing_job(deployment, job_id):
    for ask in (status, result):
        with pytest.raises(JobNotFound):
            ask(deployment, JobRef("T1", job_id))


def test_a_page_shows_the_newest_first_and_names_the_next(deployment):
    refs = [submit(deployment) for _ in range(5)]
    newest_first = [ref.job_id for ref in reversed(refs)]
    first = listed(deployment, "T1", limit=2)
    second = listed(deployment, "T1", limit=2, after=first.next_job_id)
    last = listed(deployment, "T1", limit=2, after=second.next_job_id)
    assert [job.ref.job_id for page in (first, second, last) for job in page.jobs] == newest_first
    assert last.next_job_id is None


def test_a_page_that_is_just_full_names_no_next(deployment):
    for _ in range(2):
        submit(deployment)
    assert listed(deployment, "T1", limit=2).next_job_id is None


def test_tenants_see_only_their_own_jobs(deployment):
    mine, theirs = submit(deployment, "T1"), submit(deployment, "T10")
    assert [job.ref for job in listed(deployment, "T1").jobs] == [mine]
    assert [job.ref for job in listed(deployment, "T10").jobs] == [theirs]
    assert listed(deployment, "T").jobs == ()


def test_a_state_filters_and_pages_go_on_behind_it(deployment):
    refs = [submit(deployment) for _ in range(6)]
    for ref in refs[::2]:
        deployment.store.jobs.move(deployment.job(ref), JobState.CANCELLED)
    first = listed(deployment, "T1", state="CANCELLED", limit=2)
    rest = listed(deployment, "T1", state="CANCELLED", limit=2, after=first.next_job_id)
    assert [job.ref for job in first.jobs + rest.jobs] == refs[4::-2]
    assert rest.next_job_id is None
    assert listed(deployment, "T1", state="FAILED").jobs == ()


def test_a_page_looks_through_so_many_jobs_and_the_next_goes_on(deployment, monkeypatch):
    monkeypatch.setattr(job_records, "MAX_LOOKED_AT", 2)
    refs = [submit(deployment) for _ in range(5)]
    deployment.store.jobs.move(deployment.job(refs[0]), JobState.CANCELLED)
    found, after, pages = [], None, 0
    while pages == 0 or after:
        page = listed(deployment, "T1", state="CANCELLED", after=after)
        found, after, pages = found + list(page.jobs), page.next_job_id, pages + 1
    assert ([job.ref for job in found], pages) == ([refs[0]], 3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": 0}, "1 to 100"),
        ({"limit": 101}, "1 to 100"),
        ({"limit": -1}, "1 to 100"),
        ({"state": "running"}, "Use one of: AWAITING_UPLOAD, QUEUED, RUNNING"),
        ({"state": ""}, "no state ''"),
        ({"after": ""}, "after"),
        ({"after": "x" * 3000}, "after"),
    ],
)
def test_a_wrong_question_is_refused_with_what_works(deployment, wrong, said):
    with pytest.raises(InvalidRequest, match=said):
        listed(deployment, "T1", **wrong)


def test_progress_grows_with_the_chunks_that_are_settled(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 100})
    seen = [JobView.of(status(deployment, task.job)).progress]
    deployment.plan(task)
    seen.append(JobView.of(status(deployment, task.job)).progress)
    for shard in deployment.shard_tasks(task):
        deployment.process(shard)
        seen.append(JobView.of(status(deployment, task.job)).progress)
    deployment.merge(task)
    seen.append(JobView.of(status(deployment, task.job)).progress)
    assert seen == sorted(seen)
    assert (seen[0], seen[1], seen[-1]) == (0, 0, 1)
    assert 0 < seen[2] < 1


def test_the_counts_of_a_running_job_are_those_of_its_shards(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 100})
    deployment.plan(task)
    shard, *_ = deployment.shard_tasks(task)
    deployment.process(shard)
    counts = status(deployment, task.job).counts
    assert (counts.chunks, counts.chunks_done) == (10, len(shard.shard.chunks))
    assert counts.attempts == 1
    assert deployment.job(task.job).counts.chunks_done == 0


def test_a_running_job_tells_how_many_of_its_shards_stall(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 100})
    deployment.plan(task)
    first, second, *_ = deployment.shard_tasks(task)
    for shard in (first, second):
        deployment.store.shards.claim(task.job, shard.shard, task.run)
    assert asked(deployment, task.job).stalled_shards == 0
    deployment.clock.advance(seconds=31)
    assert asked(deployment, task.job).stalled_shards == 2
    deployment.process(first)
    found = asked(deployment, task.job)
    assert (found.stalled_shards, JobView.of(found.job, found.stalled_shards).stalled_shards) == (1, 1)
    assert asked(deployment, deployment.merge(task).ref).stalled_shards == 0


def test_a_job_that_is_asked_to_stop_says_why_until_it_has(deployment):
    task = deployment.start("text-stats", DATA)
    deployment.cancel(task.job, "enough")
    assert JobView.of(status(deployment, task.job)).stopping.message == "The job was cancelled: enough"
    ended = JobView.of(deployment.merge(task))
    assert (ended.stopping, ended.cause.code) == (None, "cancelled")


def test_what_an_earlier_run_gave_stays_and_a_run_that_never_was_is_none(deployment):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 500})
    deployment.plan(task)
    first, *_ = deployment.shard_tasks(task)
    deployment.process(first)
    before = deployment.merge(task)
    again = deployment.redrive(task.job).job
    with pytest.raises(ResultNotReady, match="is RUNNING"):
        result(deployment, task.job)
    after = deployment.finish(RunTask(task.job, again.run))
    versions = {run: parse_qs(urlsplit(result(deployment, task.job, run=run).url).query)["versionId"] for run in (1, 2)}
    assert versions == {1: [before.output.version_id], 2: [after.output.version_id]}
    assert result(deployment, task.job, job_receipt, run=1).size == before.receipt.size
    for run in (0, 3):
        with pytest.raises(RunNotFound):
            result(deployment, task.job, run=run)


def test_an_ended_job_is_told_as_it_was_stored(deployment):
    job = deployment.run("text-stats", DATA)
    assert status(deployment, job.ref) == job
    view = JobView.of(job)
    assert (view.progress, view.upload_until, view.output_size) == (1, None, job.output.size)


def test_a_job_that_waits_for_its_upload_says_until_when(deployment):
    job = deployment.job(submit(deployment))
    assert JobView.of(job).upload_until == deployment.clock.now() + timedelta(hours=1)


def test_a_result_is_a_download_of_the_pinned_version_for_a_while(deployment):
    job = deployment.run("text-stats", DATA, file_name='größe "a"\\/../b.txt')
    download = result(deployment, job.ref)
    url = urlsplit(download.url)
    query = parse_qs(url.query)
    assert url.path == f"/{job.output.key}"
    assert query["versionId"] == [job.output.version_id]
    assert query["X-Amz-Expires"] == ["900"]
    assert (download.size, download.expires_in_seconds) == (job.output.size, 900)
    (disposition,) = query["response-content-disposition"]
    assert disposition.isascii()
    assert disposition.startswith("attachment; filename*=UTF-8''text-stats-gr%C3%B6")
    assert not set(disposition.partition("''")[2]) & set('"\\/ ;')
    assert unquote(disposition.partition("''")[2]) == download.file_name


def test_a_receipt_is_a_download_too(deployment):
    job = deployment.run("text-stats", DATA)
    download = result(deployment, job.ref, ask=job_receipt)
    assert (download.file_name, download.size) == (f"{job.ref.job_id}-receipt.json", job.receipt.size)


@pytest.mark.parametrize("run", [None, 1])
@pytest.mark.parametrize(("ask", "name"), [(job_result, "output"), (job_receipt, "receipt")])
def test_an_object_that_is_not_the_jobs_own_is_never_signed(deployment, ask, name, run):
    """Neither another tenant's, nor another job's, nor something else of the same job."""
    theirs = deployment.run("text-stats", DATA, tenant="T2")
    other, job = (deployment.run("text-stats", DATA, tenant="T1") for _ in range(2))
    store, table = deployment.store, deployment.settings.jobs_table
    for foreign in (getattr(theirs, name), getattr(other, name), job.input, job.plan):
        wrong = item_of(replace(job, **{name: foreign}))
        boto3.client("dynamodb").put_item(TableName=table, Item=wrong)
        with pytest.raises(ForeignObject, match=f"job {job.ref.job_id} names the object"):
            result(deployment, job.ref, ask=ask, run=run and store.jobs.get(job.ref).run)


def test_a_result_before_the_end_says_when_to_ask_again(deployment):
    ref = submit(deployment)
    for ask in (job_result, job_receipt):
        with pytest.raises(ResultNotReady, match=f"Job {ref.job_id} is AWAITING_UPLOAD. Ask again"):
            result(deployment, ref, ask)


def test_the_result_of_a_failed_job_says_why_there_is_none(deployment):
    job = deployment.run("text-stats", b"caf\xe9\n")
    with pytest.raises(ResultNotReady, match="is FAILED and has no output: The file is not UTF-8"):
        result(deployment, job.ref)


def test_the_result_of_a_cancelled_job_without_a_cause_is_still_a_sentence(deployment):
    ref = submit(deployment)
    deployment.store.jobs.move(deployment.job(ref), JobState.CANCELLED)
    with pytest.raises(ResultNotReady, match=r"is CANCELLED and has no output\.$"):
        result(deployment, ref)


def test_what_the_processor_said_is_told_to_the_owner(deployment):
    ref = submit(deployment)
    cause = Cause("processor_error", "It raised.", detail="secret")
    deployment.store.jobs.move(deployment.job(ref), JobState.FAILED, cause=cause)
    assert JobView.of(status(deployment, ref)).cause.detail == "secret"
