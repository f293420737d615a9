"""The stages end to end in this process: what goes in comes out, exactly once."""

import io
import sys
from functools import partial
from typing import Any

import pytest

from backhaul import Chunk, Context, Csv, Processor
from backhaul.model.errors import StoreRefused, UnsuitableInput
from backhaul.model.job import Cause, Counts, JobState
from backhaul.plugin.registry import find_processors
from backhaul.reading import FileSource
from backhaul.store import ShardStore
from backhaul.trial.trial import trial
from tests.shout import Shout
from tests.sources import MemorySource


class Fragile(Processor):
    """Fail on every line that says so."""

    name = "fragile"

    def process(self, record: str, ctx: Context) -> str:
        if "bad" in record:
            raise ValueError(f"secret in {record}")
        return record


def lines(count: int) -> bytes:
    return b"".join(b"line %06d\n" % number for number in range(count))


def in_one_piece(processor: str, data: bytes, tmp_path: Any, **options: Any) -> bytes:
    path = tmp_path / "input"
    path.write_bytes(data)
    output = io.BytesIO()
    trial(partial(find_processors().create, processor, options), FileSource(path), output)
    return output.getvalue()


@pytest.mark.parametrize("processor", ["text-stats", "redact"])
def test_a_job_equals_the_same_work_in_one_piece(deployment, tmp_path, processor):
    data = "größe 12 a@b.example 10.0.0.1\r\nsecond 日本語\n".encode() * 5000
    job = deployment.run(processor, data, options={"chunk_bytes": 10_000})
    assert job.state is JobState.SUCCEEDED
    assert job.counts.chunks == -(-len(data) // 10_000)
    assert deployment.read(job.output) == in_one_piece(processor, data, tmp_path)


def test_the_counts_add_up(deployment):
    deployment = deployment.with_processors(Shout)
    data = lines(1000)
    job = deployment.run("shout", data, options={"chunk_bytes": 1000})
    assert deployment.read(job.output) == data.upper()
    assert job.counts == Counts(
        shards=12,
        chunks=12,
        chunks_done=12,
        chunks_failed=0,
        records=1000,
        bytes_done=len(data),
        attempts=12,
        tallies={"shouted": 1000},
    )


def test_a_large_output_is_joined_inside_s3(deployment):
    deployment = deployment.with_processors(Shout)
    data = b"x" * 99 + b"\n"
    data = data * 260_000  # 26 MB: parts that are copied, parts that are written, and a small end
    job = deployment.run("shout", data, options={"chunk_bytes": 700_000})
    assert deployment.read(job.output) == data.upper()


def test_an_input_with_bytes_that_are_no_text_fails_the_job_and_names_the_first(deployment):
    data = lines(2000) + b"caf\xe9\n" + lines(10) + b"\xff\n"
    job = deployment.run("text-stats", data, options={"chunk_bytes": 1000})
    assert job.state is JobState.FAILED
    assert job.output is None
    assert job.cause.code == "unsuitable_input"
    assert job.cause.position == 2000 * 12 + 3
    assert str(job.cause.position) in job.cause.message


def test_utf_16_fails_at_planning(deployment):
    job = deployment.run("text-stats", "hello\n".encode("utf-16"))
    assert job.state is JobState.FAILED
    assert (job.cause.code, job.cause.position) == ("unsuitable_input", 0)


def test_a_processor_that_raises_loses_one_chunk_and_says_which(deployment):
    deployment = deployment.with_processors(Fragile)
    data = lines(300).replace(b"line 000150\n", b"bad  000150\n")
    job = deployment.run("fragile", data, options={"chunk_bytes": 120})
    assert job.state is JobState.PARTIAL
    assert job.counts.chunks_failed == 1
    (missing,) = deployment.receipt(job)["missing"]
    assert (missing["index"], missing["start"], missing["end"]) == (15, 1800, 1920)
    assert missing["cause"]["message"].startswith("The processor raised ValueError at test_pipeline.py:")
    assert "secret" not in missing["cause"]["message"]
    assert missing["cause"]["detail"] == "secret in bad  000150"
    assert deployment.read(job.output) == data[:1800] + data[1920:]


def test_a_job_of_which_nothing_succeeds_is_failed(deployment):
    deployment = deployment.with_processors(Fragile)
    job = deployment.run("fragile", b"bad\n" * 100, options={"chunk_bytes": 100})
    assert (job.state, job.cause.code, job.output) == (JobState.FAILED, "processor_error", None)
    assert len(deployment.receipt(job)["missing"]) == 4


def test_a_reduction_that_raises_fails_the_job(deployment):
    class Broken(Shout):
        name = "broken"

        def merge(self, results, ctx):
            yield next(results)
            raise RuntimeError("no")

    job = deployment.with_processors(Broken).run("broken", lines(100))
    assert (job.state, job.cause.code, job.output) == (JobState.FAILED, "processor_error", None)


def test_a_split_that_raises_fails_the_job(deployment):
    class Unsplit(Shout):
        name = "unsplit"

        def split(self, source, chunk_bytes):
            raise RuntimeError("no")

    job = deployment.with_processors(Unsplit).run("unsplit", lines(10))
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")


def test_a_worker_out_of_time_hands_over_and_the_next_goes_on_where_it_ended(deployment):
    class Slow(Shout):
        name = "slow"

        def process(self, record, ctx):
            deployment.clock.advance(seconds=1)
            return super().process(record, ctx)

    slow = deployment.with_processors(Slow)
    data = lines(400)
    task = slow.start("slow", data, options={"chunk_bytes": 600})  # 50 lines
    slow.plan(task)
    slow.remaining = 20
    for shard in slow.shard_tasks(task):
        records = []
        while True:
            outcome = slow.process(shard)
            assert not outcome.work.is_retry
            if outcome.outcome == "done":
                break
            records.append(outcome)
        assert len(records) >= 2
    job = slow.merge(task)
    assert slow.read(job.output) == data.upper()
    assert (job.counts.records, job.counts.tallies) == (400, {"shouted": 400})
    assert (job.counts.retries, job.counts.rework) == (0, 0)


def test_a_worker_without_any_time_still_gets_a_record_further(deployment):
    deployment = deployment.with_processors(Shout)
    task = deployment.start("shout", lines(30), options={"chunk_bytes": 120})
    deployment.plan(task)
    deployment.remaining = 0
    for shard in deployment.shard_tasks(task):
        attempts = 1
        while deployment.process(shard).outcome == "continue":
            attempts += 1
        assert attempts <= 12
    assert deployment.read(deployment.merge(task).output) == lines(30).upper()


def test_a_retry_does_only_what_was_not_committed(deployment):
    seen: list[str] = []

    class Once(Shout):
        name = "once"

        def process(self, record, ctx):
            seen.append(record)
            if len(seen) == 800:
                raise MemoryError
            deployment.clock.advance(seconds=0.1)  # a commit is due every 100 records
            return record

    deployment = deployment.with_processors(Once)
    data = lines(1600)
    task = deployment.start("once", data, options={"chunk_bytes": 12 * 10})
    deployment.plan(task)
    tasks = deployment.shard_tasks(task)
    crashed = 0
    for shard in tasks:
        try:
            deployment.process(shard)
        except MemoryError:
            crashed += 1
            assert deployment.process(shard).work.is_retry
    assert crashed == 1
    assert deployment.read(deployment.merge(task).output) == data
    assert len(seen) - 1600 <= 100 + 10


def test_a_superseded_worker_can_write_nothing(deployment):
    deployment = deployment.with_processors(Shout)
    data = lines(100)
    task = deployment.start("shout", data)
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)

    class Overtaken(Shout):
        name = "shout"

        def process(self, record, ctx):
            if not overtaken:
                overtaken.append(record)
                deployment.process(shard)
            return "zombie"

    overtaken: list[str] = []
    slow = deployment.with_processors(Overtaken)
    late = slow.process(shard)
    assert (late.outcome, late.overtaken) == ("wait", True)
    assert deployment.read(deployment.merge(task).output) == data.upper()


def test_without_the_fence_a_superseded_worker_would_win(deployment, monkeypatch):
    def unfenced(self, ref, record):
        current = next(each for each in self.all(ref) if each.index == record.index)
        fenced(self, ref, type(record)(**{**record.__dict__, "attempt": current.attempt}))

    fenced = ShardStore.commit
    monkeypatch.setattr(ShardStore, "commit", unfenced)
    with pytest.raises(AssertionError):
        test_a_superseded_worker_can_write_nothing(deployment)


def test_a_shard_that_is_finished_is_not_done_again(deployment):
    deployment = deployment.with_processors(Shout)
    task = deployment.start("shout", lines(10))
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    assert deployment.process(shard).work.records == 10
    assert deployment.process(shard).work.records == 0
    assert deployment.merge(task).counts.records == 10


def test_merging_and_planning_again_change_nothing(deployment):
    task = deployment.start("text-stats", lines(10))
    deployment.plan(task)
    deployment.plan(task)
    for shard in deployment.shard_tasks(task):
        deployment.process(shard)
    first = deployment.merge(task)
    assert deployment.merge(task) == first
    assert deployment.plan(task).outcome == "ended"
    assert deployment.process(deployment.shard_tasks(task)[0]).work.records == 0


def test_an_overwrite_of_the_input_during_the_run_changes_nothing(deployment):
    deployment = deployment.with_processors(Shout)
    task = deployment.start("shout", lines(10))
    deployment.put_input(task.job, b"something else\n")
    assert deployment.read(deployment.finish(task).output) == lines(10).upper()


def test_a_processor_that_swallows_a_broken_input_is_not_believed(deployment):
    class Swallows(Shout):
        name = "swallows"

        def process_chunk(self, records, ctx):
            try:
                yield from super().process_chunk(records, ctx)
            except UnsuitableInput:
                yield b"all is well"

    job = deployment.with_processors(Swallows).run("swallows", b"fine\n\xff\n")
    assert (job.state, job.cause.code) == (JobState.FAILED, "unsuitable_input")


def test_what_a_chunk_leaves_in_its_processor_reaches_no_other_chunk_here_or_in_a_trial(deployment):
    class Remembers(Shout):
        name = "remembers"
        seen = 0

        def process(self, record, ctx):
            self.seen += 1
            return str(self.seen)

    data = lines(40)
    job = deployment.with_processors(Remembers).run("remembers", data, options={"chunk_bytes": 120})
    tried = io.BytesIO()
    trial(lambda: Remembers(Remembers.Options(chunk_bytes=120)), MemorySource(data), tried)
    assert deployment.read(job.output) == tried.getvalue() == b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n" * 4


def test_a_processor_that_exits_loses_its_chunk_as_one_that_raises_does(deployment):
    class Exits(Shout):
        name = "exits"

        def process(self, record, ctx):
            return sys.exit() if "000015" in record else record

    job = deployment.with_processors(Exits).run("exits", lines(30), options={"chunk_bytes": 120})
    assert job.state is JobState.PARTIAL
    (missing,) = deployment.receipt(job)["missing"]
    assert missing["index"] == 1
    assert missing["cause"]["message"].startswith("The processor raised SystemExit at test_pipeline.py:")


def test_pieces_that_are_no_bytes_are_named_as_what_they_are(deployment):
    class Texts(Shout):
        name = "texts"

        def process_chunk(self, records, ctx):
            yield from (record.value for record in records)

    job = deployment.with_processors(Texts).run("texts", lines(10))
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")
    (missing,) = deployment.receipt(job)["missing"]
    assert missing["cause"]["message"] == (
        "The processor breaks its contract: process_chunk must yield bytes, not str."
    )


def test_an_input_that_cannot_be_read_is_a_crash_to_be_retried_and_no_verdict_on_the_file(deployment):
    task = deployment.start("text-stats", lines(10))
    deployment.plan(task)
    job = deployment.store.jobs.get(task.job)
    deployment.s3.delete_object(Bucket="data", Key=job.input.key, VersionId=job.input.version_id)
    with pytest.raises(StoreRefused):
        deployment.process(deployment.shard_tasks(task)[0])
    assert deployment.store.jobs.get(task.job).state is JobState.RUNNING


@pytest.mark.parametrize("method", ["split", "merge"])
def test_a_processor_that_exits_fails_its_job_and_kills_no_worker(deployment, method):
    def leave(*_):
        raise SystemExit(3)

    leaving = type("Leaving", (Shout,), {"name": "leaving", method: leave})
    job = deployment.with_processors(leaving).run("leaving", lines(10))
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")
    assert job.cause.message.startswith("The processor raised SystemExit at test_pipeline.py:")


def test_a_split_that_leaves_bytes_out_fails_the_job(deployment):
    class Half(Shout):
        name = "half"

        def split(self, source, chunk_bytes):
            yield Chunk(0, 0, source.size // 2)

    job = deployment.with_processors(Half).run("half", lines(10))
    assert (job.state, job.cause.code) == (JobState.FAILED, "bad_split")
    assert "ends at byte 60 of 120" in job.cause.message


def test_an_input_that_merge_finds_unsuitable_fails_the_job_with_its_sentence(deployment):
    class Picky(Shout):
        name = "picky"

        def merge(self, results, ctx):
            raise UnsuitableInput("Not like this, at byte 7.", 7)

    job = deployment.with_processors(Picky).run("picky", lines(10))
    assert (job.state, job.cause) == (JobState.FAILED, Cause("unsuitable_input", "Not like this, at byte 7.", 7))


def test_a_csv_file_with_a_stray_quote_fails_the_whole_job_at_the_quote(deployment):
    class Rows(Processor):
        """Write rows as JSON."""

        name = "rows"
        reads = Csv()

        def process(self, record, ctx):
            return record

    data = b"id,text\n" + b"1,fine\n" * 1000 + b'2,not "fine\n' + b'3,"quoted"\n' * 1000
    job = deployment.with_processors(Rows).run("rows", data, options={"chunk_bytes": 500})
    assert (job.state, job.cause.code, job.output) == (JobState.FAILED, "unsuitable_input", None)
    assert job.cause.position == data.index(b'"')
