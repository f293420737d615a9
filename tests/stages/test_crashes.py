"""A worker or a merge that dies at any step costs its last commit at most, and never the truth."""

import io

import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from backhaul.model.errors import StoreUnavailable, Superseded, UnsuitableInput
from backhaul.model.job import JobState
from backhaul.store import JobStore, ObjectStore, OutputWriter, ShardStore
from backhaul.worker import commit as commits
from backhaul.worker import watchdog
from tests.shout import Shout

DATA = b"".join(b"line %04d\n" % number for number in range(100))


class Crash(BaseException):
    """The process is gone: nothing catches this."""


def crash_once(monkeypatch, owner, name, *, after, calls=0):
    """Let a call of a method be the last thing its process does, just before or just after its effect.

    It is the next, or the one after so many `calls`. The watchdog's thread stands still from now on. It goes by the
    real time, so chance would say whether it makes that call, and an exception in it does not end the process.
    """
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 3600)
    real, left = getattr(owner, name), [calls]

    def crashing(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            return real(*args, **kwargs)
        monkeypatch.setattr(owner, name, real)
        if after:
            real(*args, **kwargs)
        raise Crash

    monkeypatch.setattr(owner, name, crashing)


@pytest.fixture
def shouting(deployment):
    return deployment.with_processors(Shout)


def works_through(deployment, task):
    for shard in deployment.shard_tasks(task):
        while deployment.process(shard).outcome == "continue":
            pass


def ended_well(deployment, task):
    job = deployment.merge(task)
    assert job.state is JobState.SUCCEEDED
    assert deployment.read(job.output) == DATA.upper()
    assert (job.counts.records, job.counts.tallies) == (100, {"shouted": 100})
    assert deployment.receipt(job)["missing"] == []
    return job


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "step"),
    [(ShardStore, "claim"), (ObjectStore, "open"), (ObjectStore, "put_result"), (ShardStore, "commit")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_worker_that_dies_at_any_step_is_replaced_without_a_trace(shouting, monkeypatch, owner, step, after):
    task = shouting.start("shout", DATA, options={"chunk_bytes": 100})
    shouting.plan(task)
    shard, *_ = shouting.shard_tasks(task)
    crash_once(monkeypatch, owner, step, after=after)
    with pytest.raises(Crash):
        shouting.process(shard)
    works_through(shouting, task)
    ended_well(shouting, task)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "step"),
    [(JobStore, "move"), (OutputWriter, "close"), (ObjectStore, "put")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_merge_that_dies_at_any_step_is_done_again_with_the_same_output(shouting, monkeypatch, owner, step, after):
    task = shouting.start("shout", DATA, options={"chunk_bytes": 100})
    shouting.plan(task)
    works_through(shouting, task)
    crash_once(monkeypatch, owner, step, after=after)
    with pytest.raises(Crash):
        shouting.merge(task)
    ended_well(shouting, task)


def test_a_merge_that_dies_with_the_job_ended_is_not_done_again(shouting, monkeypatch):
    task = shouting.start("shout", DATA)
    shouting.plan(task)
    works_through(shouting, task)
    ended = ended_well(shouting, task)
    monkeypatch.setattr(ObjectStore, "put", lambda *_, **__: pytest.fail("wrote again"))
    assert shouting.merge(task) == ended


def test_a_shard_of_which_all_is_committed_and_not_marked_is_only_marked(shouting, monkeypatch):
    """The last chunk fills a commit, and the worker dies before it says that the shard is finished."""
    monkeypatch.setattr(commits, "COMMIT_BYTES", 1)
    task = shouting.start("shout", DATA)
    shouting.plan(task)
    (shard,) = shouting.shard_tasks(task)
    write = commits.GroupCommit.write

    def die_at_the_end(self, *, finished=False, handed_over=False):
        if finished:
            raise Crash
        return write(self, finished=finished, handed_over=handed_over)

    monkeypatch.setattr(commits.GroupCommit, "write", die_at_the_end)
    with pytest.raises(Crash):
        shouting.process(shard)
    monkeypatch.setattr(commits.GroupCommit, "write", write)
    outcome = shouting.process(shard)
    assert (outcome.outcome, outcome.work.chunks, outcome.work.is_retry) == ("done", 0, True)
    ended_well(shouting, task)


def test_a_worker_that_is_late_finds_the_job_ended_and_writes_nothing_that_counts(shouting):
    task = shouting.start("shout", DATA, options={"chunk_bytes": 100})
    shouting.plan(task)
    late, *others = shouting.shard_tasks(task)
    for shard in others:
        shouting.process(shard)
    partial = shouting.merge(task)
    assert partial.state is JobState.PARTIAL
    assert shouting.process(late).work.chunks == 0
    assert shouting.merge(task) == partial


def test_a_worker_overtaken_by_another_during_the_merge_changes_nothing(shouting):
    task = shouting.start("shout", DATA)
    shouting.plan(task)
    (shard,) = shouting.shard_tasks(task)
    zombie = shouting.store.shards.claim(task.job, shard.shard, task.run)
    works_through(shouting, task)
    ended_well(shouting, task)
    with pytest.raises(Superseded):
        shouting.store.shards.commit(task.job, zombie)


def test_s3_failing_to_store_the_output_is_no_fault_of_the_processor(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA)
    deployment.plan(task)
    works_through(deployment, task)

    def slow_down(*_):
        raise ClientError({"Error": {"Code": "SlowDown", "Message": "Reduce your request rate."}}, "UploadPart")

    with monkeypatch.context() as patch:
        patch.setattr(OutputWriter, "write", slow_down)
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            deployment.merge(task)
    assert deployment.job(task.job).state is JobState.MERGING
    assert deployment.merge(task).state is JobState.SUCCEEDED


def test_a_reduction_that_yields_no_bytes_is_the_processors_fault(deployment):
    class Text(Shout):
        name = "text"

        def merge(self, results, ctx):
            yield "not bytes"

    job = deployment.with_processors(Text).run("text", DATA)
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")


def test_a_reduction_that_swallows_results_it_could_not_read_is_not_believed(deployment, monkeypatch):
    class Careless(Shout):
        name = "careless"

        def merge(self, results, ctx):
            try:
                yield from results
            except OSError:
                yield b"all is well"

    careless = deployment.with_processors(Careless)
    task = careless.start("careless", DATA)
    careless.plan(task)
    works_through(careless, task)

    def reset(*_):
        raise ConnectionResetError("reset")

    monkeypatch.setattr(ObjectStore, "read", reset)
    with pytest.raises(StoreUnavailable, match="ConnectionResetError: reset"):
        careless.merge(task)
    assert careless.job(task.job).state is JobState.MERGING


def test_bad_input_that_a_processor_passes_on_as_its_own_error_is_still_bad_input(deployment):
    class Wraps(Shout):
        name = "wraps"

        def process_chunk(self, records, ctx):
            try:
                yield from super().process_chunk(records, ctx)
            except UnsuitableInput as error:
                raise RuntimeError("something was wrong") from error

    job = deployment.with_processors(Wraps).run("wraps", b"fine\ncaf\xe9\n")
    assert (job.state, job.cause.code, job.cause.position) == (JobState.FAILED, "unsuitable_input", 8)


@pytest.mark.parametrize("tally", [("x", 0.5), (5, 1), ("x", None)])
def test_a_tally_that_cannot_be_stored_is_the_processors_fault(deployment, tally):
    class Counts(Shout):
        name = "counts"

        def process(self, record, ctx):
            ctx.tally(*tally)

    job = deployment.with_processors(Counts).run("counts", DATA)
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")
    assert "a tally is a name and a whole number" in job.cause.detail


def test_a_connection_that_breaks_while_merge_reads_a_result_costs_no_byte(shouting, monkeypatch):
    task = shouting.start("shout", DATA, options={"chunk_bytes": 100})
    shouting.plan(task)
    works_through(shouting, task)
    broken = []
    real = shouting.store.objects.client.get_object

    def cut_short(**request):
        answer = real(**request)
        if "/results/" in request["Key"] and len(broken) < 3:
            broken.append(request["Key"])
            body = answer["Body"].read()
            answer["Body"] = StreamingBody(io.BytesIO(body[: len(body) // 2]), len(body))
        return answer

    monkeypatch.setattr(shouting.store.objects.client, "get_object", cut_short)
    ended_well(shouting, task)
    assert len(broken) == 3


def test_a_plan_that_was_not_read_whole_ends_no_job(shouting, monkeypatch):
    task = shouting.start("shout", DATA, options={"chunk_bytes": 100})
    shouting.plan(task)
    works_through(shouting, task)
    real = ObjectStore.lines
    monkeypatch.setattr(ObjectStore, "lines", lambda store, key: list(real(store, key))[:-1])
    with pytest.raises(StoreUnavailable, match="not read whole"):
        shouting.merge(task)
    monkeypatch.undo()
    ended_well(shouting, task)
