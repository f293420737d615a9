"""A shard is worked through once, whatever dies, hangs or fails on the way; and what fails is named."""

import re
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
from botocore.exceptions import ClientError

from backhaul import Lines, Permanent, Processor, Transient
from backhaul.model import waits
from backhaul.model.errors import InvalidProcessor, JobNotEnded, NotRedrivable, Superseded
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import Cause, Counts, JobState, Stop, StopKind
from backhaul.model.policy import Policy
from backhaul.model.progress import STALLED_AFTER
from backhaul.model.shard import Shard
from backhaul.model.task import RunTask
from backhaul.stages import merge as merges
from backhaul.stages.conclude import conclude_shard
from backhaul.store import JobStore, ObjectStore, ShardStore, StepStore
from backhaul.worker import commit as commits
from backhaul.worker import watchdog
from backhaul.worker.shard_run import MAX_DEATHS
from tests.stages.test_crashes import Crash, crash_once

DATA = b"".join(b"line %04d\n" % number for number in range(40))
ONE_CHUNK = {"chunk_bytes": 1000}
FOUR_CHUNKS = {"chunk_bytes": 100}


def outage():
    error = {"Error": {"Code": "InternalServerError", "Message": "..."}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    return ClientError(error, "UpdateItem")


class Provider:
    """A paid API: counts every call, and does what a test tells it to."""

    def __init__(self):
        self.calls = Counter()
        self.trouble = {}

    def ask(self, question):
        self.calls[question] += 1
        trouble = self.trouble.get(question)
        if trouble is not None:
            trouble(self.calls[question])
        return question.upper()

    def repeated(self):
        return {question: count for question, count in self.calls.items() if count > 1}


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def working(deployment, provider):
    """A deployment with processors that ask the provider about each line, each taking a second of virtual time."""

    class Plain(Processor):
        """Ask about every line."""

        name = "plain"
        reads = Lines()

        def process(self, record, ctx):
            deployment.clock.advance(seconds=1)
            ctx.tally("asked")
            return provider.ask(record)

    class Stepping(Plain):
        """Ask about every line, in two steps that are paid once."""

        name = "stepping"

        def process(self, record, ctx):
            deployment.clock.advance(seconds=1)
            first = ctx.step("first", lambda: provider.ask(f"{record} first"))
            second = ctx.step("second", lambda: provider.ask(f"{record} second"))
            assert (first, second) == (f"{record} first".upper(), f"{record} second".upper())
            return record.upper()

    class Summing(Processor):
        """Number the lines of a chunk, keeping the count in checkpoints."""

        name = "summing"
        reads = Lines()

        def process_chunk(self, records, ctx):
            number = ctx.state or 0
            for record in records:
                deployment.clock.advance(seconds=1)
                provider.ask(record.value)
                number += 1
                yield f"{number} {record.value}\n".encode()
                ctx.checkpoint(number)

    return deployment.with_processors(Plain, Stepping, Summing)


def begun(deployment, processor, options=ONE_CHUNK, **policy):
    task = deployment.start(processor, DATA, options=options, policy=Policy(**policy))
    deployment.plan(task)
    return task


def ended(deployment, task):
    for shard in deployment.shard_tasks(task):
        while (outcome := deployment.process(shard)).outcome != "done":
            deployment.clock.advance(seconds=outcome.seconds)
    return deployment.merge(task)


def record_of(deployment, task):
    return {record.index: record for record in deployment.store.shards.all(task.job)}


# Records done and steps memoised


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_crash_inside_a_chunk_repeats_at_most_one_commit_interval(working, provider, monkeypatch, after, times):
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)
    for _ in range(times):
        crash_once(monkeypatch, ShardStore, "commit", after=after)
        with pytest.raises(Crash):
            working.process(shard)
    job = ended(working, task)
    assert (job.state, working.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert sum(provider.calls.values()) - 40 <= times * (commits.COMMIT_SECONDS + 1)
    assert job.counts.tallies == {"asked": 40}
    assert job.counts.records == 40
    assert job.counts.retries == times


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["claim", "commit", "beat"])
def test_a_step_whose_answer_was_stored_is_never_called_again(working, provider, monkeypatch, step, after):
    task = begun(working, "stepping")
    (shard,) = working.shard_tasks(task)
    crash_once(monkeypatch, ShardStore, step, after=after)
    with pytest.raises(Crash):
        working.process(shard)
    job = ended(working, task)
    assert working.read(job.output) == DATA.upper()
    assert provider.repeated() == {}
    assert sum(provider.calls.values()) == 80


def test_a_crash_between_an_answer_and_its_storing_repeats_that_one_call(working, provider, monkeypatch):
    task = begun(working, "stepping")
    (shard,) = working.shard_tasks(task)
    crash_once(monkeypatch, StepStore, "keep", after=False)
    with pytest.raises(Crash):
        working.process(shard)
    ended(working, task)
    assert provider.repeated() == {"line 0000 first": 2}


def test_an_answer_larger_than_an_item_goes_to_s3_and_comes_back(deployment):
    large = "x" * 500_000
    calls = []

    class Large(Processor):
        """Write how long the answer is."""

        name = "large"

        def process(self, record, ctx):
            answer = ctx.step("large", lambda: calls.append(record) or {"text": large})
            if len(calls) == 1 and not crashed:
                crashed.append(True)
                raise Crash
            return str(len(answer["text"]))

    crashed = []
    working = deployment.with_processors(Large)
    task = working.start("large", b"a\nb\n")
    working.plan(task)
    (shard,) = working.shard_tasks(task)
    with pytest.raises(Crash):
        working.process(shard)
    job = ended(working, task)
    assert working.read(job.output) == b"500000\n500000\n"
    assert calls == ["a", "b"]


@pytest.mark.parametrize("answer", [object(), {1, 2}, float("nan")], ids=["object", "set", "nan"])
def test_what_json_cannot_hold_is_no_answer(deployment, answer):
    class Odd(Processor):
        """Answer with something odd."""

        name = "odd"

        def process(self, record, ctx):
            got = ctx.step("odd", lambda: answer)
            assert got in ([1, 2], None)
            return "fine"

    job = deployment.with_processors(Odd).run("odd", b"a\n")
    if isinstance(answer, set | float):
        assert job.state is JobState.SUCCEEDED
    else:
        assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")


def test_two_steps_of_one_name_in_a_record_are_refused(deployment):
    class Twice(Processor):
        """Ask twice under one name."""

        name = "twice"

        def process(self, record, ctx):
            return [ctx.step("ask", lambda: 1), ctx.step("ask", lambda: 2)]

    job = deployment.with_processors(Twice).run("twice", b"a\n")
    assert job.state is JobState.FAILED
    assert "two steps 'ask'" in job.cause.detail


def test_a_processors_own_state_comes_back_with_the_records_that_follow(working, provider, monkeypatch):
    task = begun(working, "summing")
    (shard,) = working.shard_tasks(task)
    for _ in range(2):
        crash_once(monkeypatch, ShardStore, "commit", after=True)
        with pytest.raises(Crash):
            working.process(shard)
    job = ended(working, task)
    expected = b"".join(b"%d line %04d\n" % (number + 1, number) for number in range(40))
    assert working.read(job.output) == expected
    assert len(provider.repeated()) <= 2 * (commits.COMMIT_SECONDS + 1)


# Time


def test_a_chunk_longer_than_a_function_lives_finishes_by_continuing(working, provider):
    task = begun(working, "plain")
    working.remaining = 12.0
    (shard,) = working.shard_tasks(task)
    outcomes = []
    while not outcomes or outcomes[-1] != "done":
        began = working.clock.monotonic()
        outcomes.append(working.process(shard).outcome)
        assert working.clock.monotonic() - began < 12
    job = working.merge(task)
    assert working.read(job.output) == DATA.upper()
    assert provider.repeated() == {}
    assert len(outcomes) >= 4
    assert (job.counts.retries, job.counts.rework) == (0, 0)


def test_long_work_leaves_few_parts_in_its_record(working):
    task = begun(working, "plain")
    working.remaining = 6.0
    ended(working, task)
    (record,) = record_of(working, task).values()
    assert record.attempt > 8
    assert len(record.parts) == 1


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_a_record_that_passes_its_time_limit_is_ended_and_set_aside(working, provider):
    provider.trouble["line 0007"] = lambda _: signal.pause()
    working = working.with_real_watch()
    task = begun(working, "plain", FOUR_CHUNKS, record_seconds=1, max_tries=2)
    job = ended(working, task)
    (missing,) = working.receipt(job)["missing"]
    assert (job.state, missing["cause"]["code"], missing["record"]) == (JobState.PARTIAL, "record_timeout", 70)
    assert provider.calls["line 0007"] == 2
    assert provider.calls["line 0006"] == 1


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_a_regular_expression_that_lets_no_other_thread_run_is_ended_too(working, provider):
    provider.trouble["line 0007"] = lambda _: re.match(r"(a+)+$", "a" * 64 + "b")
    working = working.with_real_watch()
    job = ended(working, begun(working, "plain", FOUR_CHUNKS, record_seconds=1, max_tries=1))
    (missing,) = working.receipt(job)["missing"]
    assert (missing["cause"]["code"], missing["record"]) == ("record_timeout", 70)


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_each_attempt_at_a_slow_record_has_the_whole_time_limit(working, provider):
    began = []
    provider.trouble["line 0007"] = lambda _: (began.append(time.monotonic()), signal.pause())
    working = working.with_real_watch()
    ended(working, begun(working, "plain", FOUR_CHUNKS, record_seconds=1, max_tries=3))
    assert len(began) == 3
    assert all(later - before >= 1 for before, later in pairwise(began))


# Retries


def test_a_failure_that_passes_is_tried_again_from_its_record_and_costs_nothing_else(working, provider, monkeypatch):
    def busy(call):
        if call < 3:
            raise Transient("busy", retry_after=0)

    monkeypatch.setattr(waits, "_random", type("Never", (), {"uniform": staticmethod(lambda _a, _b: 0.0)}))
    provider.trouble["line 0020"] = busy
    job = ended(working, begun(working, "plain"))
    assert (job.state, working.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert provider.repeated() == {"line 0020": 3}


def test_a_long_wait_leaves_the_function(working, provider):
    def busy(call):
        if call == 1:
            raise Transient("busy", retry_after=90)

    provider.trouble["line 0020"] = busy
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)
    before = working.clock.monotonic()
    outcome = working.process(shard)
    assert (outcome.outcome, outcome.seconds) == ("wait", 90)
    assert working.clock.monotonic() - before < 30
    job = ended(working, task)
    assert working.read(job.output) == DATA.upper()
    assert provider.repeated() == {"line 0020": 2}


@pytest.mark.parametrize(
    ("error", "calls", "code"),
    [
        (Transient("down"), 3, "transient"),
        (ConnectionResetError("reset"), 3, "transient"),
        (Permanent("bad record"), 1, "permanent"),
        (InvalidProcessor("no bytes"), 1, "processor_error"),
        (ValueError("bad"), 1, "processor_error"),
        (SystemExit(503), 1, "processor_error"),
    ],
    ids=repr,
)
def test_what_may_pass_is_tried_so_often_and_what_will_not_once(working, provider, error, calls, code):
    def fail(_):
        raise error

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS, max_tries=3))
    assert (job.state, provider.calls["line 0012"]) == (JobState.PARTIAL, calls)
    (missing,) = working.receipt(job)["missing"]
    assert (missing["index"], missing["start"], missing["end"], missing["record"]) == (1, 100, 200, 120)
    assert (missing["cause"]["code"], missing["tries"]) == (code, calls)
    (dead_letter,) = working.dead_letters()
    assert missing["message_id"] == dead_letter["message_id"]
    assert [dead_letter[name] for name in ("chunk", "start", "end", "record")] == [1, 100, 200, 120]
    assert len(dead_letter["tries"]) == calls
    assert dead_letter["input"]["key"] == job.input.key
    expected = b"".join(b"LINE %04d\n" % number for number in range(40) if not 10 <= number < 20)
    assert working.read(job.output) == expected


def test_a_step_that_was_answered_is_not_asked_again_when_a_later_one_fails_and_passes(working, provider, monkeypatch):
    def busy(call):
        if call < 3:
            raise Transient("busy", retry_after=0)

    monkeypatch.setattr(waits, "_random", type("Never", (), {"uniform": staticmethod(lambda _a, _b: 0.0)}))
    provider.trouble["line 0020 second"] = busy
    job = ended(working, begun(working, "stepping"))
    assert working.read(job.output) == DATA.upper()
    assert provider.repeated() == {"line 0020 second": 3}


def test_a_checkpoint_in_the_middle_of_a_record_is_refused(deployment):
    class Early(Processor):
        """Call a record done before it is."""

        name = "early"

        def process(self, record, ctx):
            ctx.checkpoint()
            return record

    job = deployment.with_processors(Early).run("early", b"a\n")
    assert job.state is JobState.FAILED
    assert "checkpoint works only in process_chunk" in job.cause.message


# Poison


def test_a_chunk_that_kills_its_workers_is_set_aside_and_its_siblings_go_on(working, provider):
    def die(_):
        raise Crash

    provider.trouble["line 0012"] = provider.trouble["line 0033"] = die
    task = begun(working, "plain", FOUR_CHUNKS)
    deaths = 0
    for shard in working.shard_tasks(task):
        row = 0
        while True:
            try:
                outcome = working.process(shard).outcome
            except Crash:
                deaths += 1
                row += 1
                assert row <= MAX_DEATHS + 1, "the state machine would have given the shard up"
                continue
            row = 0
            if outcome == "done":
                break
    job = working.merge(task)
    missing = working.receipt(job)["missing"]
    assert [(chunk["index"], chunk["cause"]["code"]) for chunk in missing] == [(1, "worker_died"), (3, "worker_died")]
    assert job.counts.records == 20
    assert deaths <= 2 * (MAX_DEATHS + 1)
    assert {dead_letter["chunk"] for dead_letter in working.dead_letters()} == {1, 3}


def test_an_outage_of_the_table_blames_no_chunk_and_costs_what_was_not_committed(working, provider, monkeypatch):
    def die(call):
        if call == 1:
            raise Crash

    provider.trouble["line 0002"] = die
    task = begun(working, "plain", FOUR_CHUNKS)
    (shard, *others) = working.shard_tasks(task)
    with pytest.raises(Crash):
        working.process(shard)
    # From here on the workers are careful, and would blame the chunk for their deaths.
    real, refused = ShardStore.commit, []

    def out_of_order(store, ref, record):
        if len(refused) < 2 * MAX_DEATHS and record.parts:
            refused.append(record.attempt)
            raise outage()
        real(store, ref, record)

    monkeypatch.setattr(ShardStore, "commit", out_of_order)
    outcomes = []
    while not outcomes or outcomes[-1].outcome != "done":
        outcomes.append(working.process(shard))
        working.clock.advance(seconds=outcomes[-1].seconds)
        shard = replace(shard, left=outcomes[-1].work.attempt)
    for other in others:
        assert working.process(other).outcome == "done"
    job = working.merge(task)
    assert (job.state, working.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert refused == list(range(2, 2 + 2 * MAX_DEATHS))
    assert all(outcome.outcome == "wait" and 1 <= outcome.seconds <= 32 for outcome in outcomes[:-1])
    assert job.counts.retries == 1 + len(refused)


def test_deaths_that_progress_lies_between_are_no_chunks_fault(working, provider):
    def die(call):
        if call == 1:
            raise Crash

    provider.trouble |= dict.fromkeys([f"line {number:04d}" for number in (5, 16, 27, 38)], die)
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)
    while True:
        try:
            if working.process(shard).outcome == "done":
                break
        except Crash:
            working.clock.advance(seconds=1)
    job = working.merge(task)
    assert (job.state, working.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert job.counts.retries == 4


def test_a_chunk_that_can_never_be_done_in_a_workers_time_is_set_aside(deployment):
    class Endless(Processor):
        """Take more time than there is, and never say what may be kept."""

        name = "endless"
        tries = 0

        def process_chunk(self, records, ctx):
            type(self).tries += 1
            for _ in range(type(self).tries):
                next(records)
            raise Interrupted(InterruptReason.TIME_UP)
            yield b""

    working = deployment.with_processors(Endless)
    job = ended(working, working_plan(working, "endless"))
    assert (job.state, job.cause.code, Endless.tries) == (JobState.FAILED, "record_timeout", 4)


def working_plan(deployment, processor):
    task = deployment.start(processor, DATA, options=ONE_CHUNK)
    deployment.plan(task)
    return task


def test_a_checkpoint_that_changes_the_state_alone_is_kept(deployment):
    phases = []

    class Phased(Processor):
        """Go through phases before the first record is read, and die once in their middle."""

        name = "phased"

        def process_chunk(self, records, ctx):
            for phase in range((ctx.state or 0) + 1, 4):
                phases.append(phase)
                ctx.tally("phases")
                deployment.clock.advance(seconds=11)
                ctx.checkpoint(phase)
                if phase == 2 and phases.count(2) == 1:
                    raise Crash
            for record in records:
                yield record.value.encode()

    working = deployment.with_processors(Phased)
    task = working_plan(working, "phased")
    (shard,) = working.shard_tasks(task)
    with pytest.raises(Crash):
        working.process(shard)
    job = ended(working, task)
    assert (job.state, phases, job.counts.tallies) == (JobState.SUCCEEDED, [1, 2, 3], {"phases": 3})


class Mute(Exception):
    """An exception that cannot even say what it is."""

    retry_after = object()

    @property
    def response(self):
        return {"Error": "text"}

    def __str__(self):
        raise RuntimeError


@pytest.mark.parametrize("error", [Mute(), ValueError("half a pair: \ud800")], ids=["mute", "surrogate"])
def test_an_exception_of_any_making_costs_its_chunk_and_no_more(working, provider, error):
    def fail(_):
        raise error

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS))
    (missing,) = working.receipt(job)["missing"]
    assert (job.state, missing["index"], missing["cause"]["code"]) == (JobState.PARTIAL, 1, "processor_error")
    assert len(working.dead_letters()) == 1


def test_a_processor_that_cannot_be_made_fails_its_chunks_and_kills_no_worker(deployment):
    class Broken(Processor):
        """Fail at once."""

        name = "broken"
        planned = False

        def __init__(self, options):
            super().__init__(options)
            if type(self).planned:
                raise OSError("no such file")

        def process(self, record, ctx):
            return record

    working = deployment.with_processors(Broken)
    task = working_plan(working, "broken")
    Broken.planned = True
    job = ended(working, task)
    assert (job.state, job.cause.code) == (JobState.FAILED, "processor_error")


def test_fail_fast_holds_though_the_worker_dies_before_it_can_say_so(working, provider, monkeypatch):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    task = begun(working, "plain", FOUR_CHUNKS, fail_fast=True)
    _, second, *_ = working.shard_tasks(task)
    crash_once(monkeypatch, type(working.store.jobs), "request_stop", after=False)
    with pytest.raises(Crash):
        working.process(second)
    job = ended(working, task)
    assert job.state is JobState.FAILED
    assert job.stop is not None


def test_fail_fast_ends_the_job_at_the_first_failure(working, provider):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    task = begun(working, "plain", FOUR_CHUNKS, fail_fast=True)
    job = ended(working, task)
    assert job.state is JobState.FAILED
    assert provider.calls["line 0025"] == 0
    assert "ValueError" in job.cause.message


@pytest.mark.parametrize(
    ("tolerate", "state"),
    [(None, "PARTIAL"), (1, "PARTIAL"), ("25%", "PARTIAL"), (0, "FAILED"), ("24.9%", "FAILED")],
)
def test_a_job_lacks_what_its_policy_tolerates_and_no_more(working, provider, tolerate, state):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS, tolerate=tolerate))
    assert job.state == state
    assert len(working.receipt(job)["missing"]) == 1


# Fences


def test_a_worker_that_is_overtaken_in_the_middle_of_a_chunk_can_write_nothing_more(working, provider):
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)

    def overtake(_):
        provider.trouble.clear()
        outer.append(working.process(shard))

    outer = []
    provider.trouble["line 0015"] = overtake
    late = working.process(shard)
    assert (late.outcome, late.overtaken, late.work.chunks) == ("wait", True, 0)
    assert outer[0].outcome == "done"
    job = working.merge(task)
    assert working.read(job.output) == DATA.upper()


def test_a_worker_that_was_overtaken_leaves_the_shard_to_the_other_while_that_one_lives(working, provider):
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)
    claims = []

    def overtake(_):
        provider.trouble.clear()
        working.store.shards.claim(task.job, shard.shard, task.run)
        claims.append(working.clock.monotonic())

    provider.trouble["line 0015"] = overtake
    outcomes = [working.process(shard)]
    while outcomes[-1].outcome == "wait":
        assert outcomes[-1].overtaken
        assert working.store.shards.get(task.job, 0).attempt == 2
        working.clock.advance(seconds=outcomes[-1].seconds)
        began = working.clock.monotonic()
        outcomes.append(working.process(replace(shard, left=outcomes[-1].work.attempt, overtaken=True)))
    assert len(outcomes) > 2
    assert began - claims[0] > STALLED_AFTER.total_seconds(), "until then the other may live"
    assert working.merge(task).state is JobState.SUCCEEDED


def test_a_late_worker_of_an_earlier_run_cannot_claim(working, provider):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    task = begun(working, "plain", FOUR_CHUNKS)
    job = ended(working, task)
    provider.trouble.clear()
    shards = working.shard_tasks(task)
    assert working.redrive(job.ref).started
    assert working.process(shards[1]).outcome == "done"
    assert provider.calls["line 0012"] == 1
    working.store.shards.claim(job.ref, shards[1].shard, task.run + 1)
    with pytest.raises(Superseded):
        working.store.shards.claim(job.ref, shards[1].shard, task.run)


# Redrive


def test_a_redrive_keeps_apart_what_an_earlier_run_left_in_its_middle(working, provider):
    """Chunk 0 failed, chunk 1 is open when the job is cancelled; the next run begins with 0 again, and pauses in it."""

    def fail(_):
        raise ValueError("bad")

    def cancel(_):
        provider.trouble.clear()
        working.cancel(task.job)

    provider.trouble |= {"line 0002": fail, "line 0014": cancel}
    task = working.start("plain", DATA, options={"chunk_bytes": 10 * 10})
    working.plan(task)
    (first, second, *_) = working.shard_tasks(task)
    both = replace(first, shard=Shard(0, (*first.shard.chunks, *second.shard.chunks)))
    store_plan(working, task, both.shard)
    assert working.process(both).outcome == "done"
    job = working.merge(task)
    assert job.state is JobState.CANCELLED
    assert record_of(working, task)[0].open.index == 1
    redriven = working.redrive(job.ref)
    again = RunTask(job.ref, redriven.job.run)
    working.plan(again)
    working.remaining = 6.0
    after = ended(working, again)
    assert (after.state, working.read(after.output)) == (JobState.SUCCEEDED, DATA[:200].upper())
    assert after.counts.records == 20
    assert after.counts.tallies == {"asked": 20}


def store_plan(deployment, task, shard):
    job = deployment.job(task.job)
    stored = deployment.store.objects.put(job.plan.key, shard.to_line())
    counts = Counts(shards=1, chunks=len(shard.chunks))
    deployment.store.jobs.note(job, plan=stored, counts=counts, declared_size=len(DATA))


def test_a_redrive_does_only_what_is_missing_and_ends_like_a_clean_run(working, provider):
    def fail(_):
        raise ValueError("bad")

    provider.trouble |= dict.fromkeys(["line 0012", "line 0033"], fail)
    job = ended(working, begun(working, "plain", FOUR_CHUNKS))
    first = working.read(job.output)
    assert (job.state, job.counts.chunks_failed) == (JobState.PARTIAL, 2)
    provider.trouble.clear()
    provider.calls.clear()
    redriven = working.redrive(job.ref, only_failed=True)
    assert (redriven.started, redriven.chunks, redriven.job.state) == (True, 2, JobState.RUNNING)
    task = type(begun(working, "plain"))(job.ref, redriven.job.run)
    working.plan(task)
    assert len(working.shard_tasks(task)) == 2
    after = ended(working, task)
    assert (after.state, after.run, working.read(after.output)) == (JobState.SUCCEEDED, 2, DATA.upper())
    assert set(provider.calls) == {f"line {number:04d}" for number in (*range(10, 20), *range(30, 40))}
    assert after.counts.records == 40
    assert working.receipt(after)["missing"] == []
    before = working.store.jobs.of_run(after, 1)
    assert (before.state, working.read(before.output)) == (JobState.PARTIAL, first)
    assert working.redrive(job.ref).started is False


def test_a_redrive_of_a_job_that_failed_at_its_merge_merges_again(deployment):
    class Stubborn(Processor):
        """Refuse to merge until told otherwise."""

        name = "stubborn"
        broken = True

        def process(self, record, ctx):
            return record

        def merge(self, results, ctx):
            if type(self).broken:
                raise ValueError("no")
            yield from results

    working = deployment.with_processors(Stubborn)
    job = working.run("stubborn", DATA)
    assert job.state is JobState.FAILED
    Stubborn.broken = False
    redriven = working.redrive(job.ref)
    assert (redriven.started, redriven.chunks) == (True, 0)
    after = working.finish(RunTask(job.ref, 2))
    assert (after.state, working.read(after.output)) == (JobState.SUCCEEDED, DATA)


def after_a_crash(working, task):
    for shard in working.shard_tasks(task):
        conclude_shard(shard, "Runtime.ImportModuleError", "", jobs=working.store.jobs, shards=working.store.shards)
    return "worker_died"


def after_a_stop(working, task, kind):
    stop = Stop(kind, Cause("stopped", "It was stopped."), working.clock.now())
    working.store.jobs.request_stop(working.job(task.job), stop)
    return "processor_error"


@pytest.mark.parametrize(
    "left",
    [
        after_a_crash,
        partial(after_a_stop, kind=StopKind.LOST),
        partial(after_a_stop, kind=StopKind.DEADLINE),
        partial(after_a_stop, kind=StopKind.BUDGET),
    ],
    ids=["crash", "lost", "deadline", "budget"],
)
def test_a_chunk_that_a_redrive_did_not_come_to_has_a_dead_letter_again(working, provider, left):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS))
    (first,) = working.dead_letters()
    again = RunTask(job.ref, working.redrive(job.ref).job.run)
    working.plan(again)
    cause = left(working, again)
    for _ in range(2):  # a merge that is called again sends a copy of its dead letter at most
        job = working.merge(again)
    (missing,) = working.receipt(job)["missing"]
    (second,) = working.dead_letters()  # the first was received, and is hidden
    assert (second["dead_letter_id"], second["message_id"]) == (f"{job.ref.job_id}.r2.c1", missing["message_id"])
    assert (first["dead_letter_id"], first["cause"]["code"]) == (f"{job.ref.job_id}.r1.c1", "processor_error")
    assert second["cause"]["code"] == missing["cause"]["code"] == cause
    assert missing["tries"] == 1


def test_who_redrives_in_the_moment_in_which_another_does_is_told_so(working, provider, monkeypatch):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS))
    keep_run, first = JobStore.keep_run, []

    def late(store, job):
        monkeypatch.setattr(JobStore, "keep_run", keep_run)
        first.append(working.redrive(job.ref, only_failed=True))
        keep_run(store, job)

    monkeypatch.setattr(JobStore, "keep_run", late)
    with pytest.raises(JobNotEnded, match="was PARTIAL and has just become RUNNING"):
        working.redrive(job.ref)
    assert [each.started for each in first] == [True]
    after = working.job(job.ref)
    assert (after.run, after.only_failed) == (2, True)
    assert working.store.slots.get().members == {job.ref}


def test_a_job_whose_input_is_gone_is_not_redriven(working, provider):
    def fail(_):
        raise ValueError("bad")

    provider.trouble["line 0012"] = fail
    job = ended(working, begun(working, "plain", FOUR_CHUNKS))
    working.s3.delete_object(Bucket="data", Key=job.input.key, VersionId=job.input.version_id)
    with pytest.raises(NotRedrivable, match="is not stored any more"):
        working.redrive(job.ref)
    assert working.job(job.ref) == job


# Cancel


def test_a_running_job_that_is_cancelled_stops_at_a_commit_and_keeps_what_was_done(working, provider):
    task = begun(working, "plain")
    stopped_at = []

    def cancel(_):
        provider.trouble.clear()
        stopped_at.append(working.clock.monotonic())
        assert working.cancel(task.job, "enough").stop is not None

    provider.trouble["line 0011"] = cancel
    (shard,) = working.shard_tasks(task)
    assert working.process(shard).outcome == "done"
    assert working.clock.monotonic() - stopped_at[0] <= 15
    assert working.process(shard).work.attempt == 0
    job = working.merge(task)
    assert (job.state, job.cause.code) == (JobState.CANCELLED, "cancelled")
    assert working.cancel(task.job).state is JobState.CANCELLED
    assert working.receipt(job)["missing"][0]["cause"]["message"] == "The job was cancelled: enough"
    assert working.dead_letters() == []


def test_a_cancelled_jobs_finished_chunks_are_its_output(working, provider):
    task = begun(working, "plain", FOUR_CHUNKS)
    first, *_ = working.shard_tasks(task)
    working.process(first)
    working.cancel(task.job)
    job = working.merge(task)
    assert (job.state, working.read(job.output)) == (JobState.CANCELLED, DATA[:100].upper())


def test_a_job_whose_money_is_spent_is_paused_with_what_was_done_and_goes_on_in_another_run(working, provider):
    task = begun(working, "plain", FOUR_CHUNKS)
    first, second, *rest = working.shard_tasks(task)
    spent = Stop(StopKind.BUDGET, Cause("budget_spent", "It is spent."), working.clock.now())
    working.process(first)
    provider.trouble["line 0010"] = lambda _: working.store.jobs.request_stop(working.job(task.job), spent)
    for shard in (second, *rest):
        assert working.process(shard).outcome == "done"
    job = working.merge(task)
    assert (job.state, job.cause.code) == (JobState.PAUSED, "budget_spent")
    assert working.read(job.output).startswith(DATA[:100].upper())
    assert not working.dead_letters()
    paid = sum(provider.calls.values())
    again = replace(task, run=working.redrive(task.job).job.run)
    working.plan(again)
    job = ended(working, again)
    assert (job.state, working.read(job.output)) == (JobState.SUCCEEDED, DATA.upper())
    assert sum(provider.calls.values()) == 40 >= paid


def test_a_paused_job_can_be_cancelled_and_keeps_its_output(working):
    task = begun(working, "plain", FOUR_CHUNKS)
    working.process(working.shard_tasks(task)[0])
    spent = Stop(StopKind.BUDGET, Cause("budget_spent", "It is spent."), working.clock.now())
    working.store.jobs.request_stop(working.job(task.job), spent)
    paused = working.merge(task)
    job = working.cancel(task.job)
    assert (job.state, job.output) == (JobState.CANCELLED, paused.output)


def test_a_job_that_is_cancelled_while_it_stops_for_lack_of_money_is_not_paused(working, monkeypatch):
    task = begun(working, "plain", FOUR_CHUNKS)
    working.process(working.shard_tasks(task)[0])
    spent = Stop(StopKind.BUDGET, Cause("budget_spent", "It is spent."), working.clock.now())
    working.store.jobs.request_stop(working.job(task.job), spent)
    put = ObjectStore.put

    def cancelling(store, *args, **kwargs):
        monkeypatch.setattr(ObjectStore, "put", put)
        for _ in range(2):
            assert working.cancel(task.job, "enough").stop.kind is StopKind.CANCEL
        return put(store, *args, **kwargs)

    monkeypatch.setattr(ObjectStore, "put", cancelling)
    job = working.merge(task)
    assert (job.state, job.cause.code, working.dead_letters()) == (JobState.CANCELLED, "cancelled", [])
    assert working.receipt(job)["state"] == "CANCELLED"


@pytest.mark.parametrize("kind", [StopKind.DEADLINE, StopKind.FAIL_FAST, StopKind.LOST])
def test_a_cancel_of_a_job_that_stops_already_changes_nothing(working, kind):
    task = begun(working, "plain", FOUR_CHUNKS)
    working.process(working.shard_tasks(task)[0])
    after_a_stop(working, task, kind)
    before = working.job(task.job)
    assert working.cancel(task.job) == before
    assert working.merge(task).state is not JobState.CANCELLED


def test_a_cancel_that_comes_during_the_merge_is_kept(working, monkeypatch):
    task = begun(working, "plain")
    (shard,) = working.shard_tasks(task)
    working.process(shard)
    put = working.store.objects.put

    def cancelling(*args, **kwargs):
        monkeypatch.undo()
        working.cancel(task.job)
        return put(*args, **kwargs)

    monkeypatch.setattr(type(working.store.objects), "put", lambda _self, *args, **kwargs: cancelling(*args, **kwargs))
    job = working.merge(task)
    assert (job.state, working.read(job.output)) == (JobState.CANCELLED, DATA.upper())


def test_a_deadline_that_comes_during_the_merge_sends_no_dead_letter_twice(working, monkeypatch):
    task = begun(working, "plain", FOUR_CHUNKS)
    (first, *_) = working.shard_tasks(task)
    working.process(first)
    put = ObjectStore.put

    def stopping(store, *args, **kwargs):
        monkeypatch.setattr(ObjectStore, "put", put)
        late = Stop(StopKind.DEADLINE, Cause("deadline", "It is late."), working.clock.now())
        working.store.jobs.request_stop(working.job(task.job), late)
        return put(store, *args, **kwargs)

    monkeypatch.setattr(ObjectStore, "put", stopping)
    job = working.merge(task)
    assert job.state is JobState.PARTIAL
    dead_letters = [(dead_letter["chunk"], dead_letter["message_id"]) for dead_letter in working.dead_letters()]
    missing = [(chunk["index"], chunk["message_id"]) for chunk in working.receipt(job)["missing"]]
    assert sorted(dead_letters) == missing
    assert [index for index, _ in missing] == [1, 2, 3]


def test_a_reduction_asks_s3_once_for_what_lies_together(deployment, monkeypatch):
    task = deployment.start("text-stats", DATA, options={"chunk_bytes": 10})
    deployment.plan(task)
    shards = deployment.shard_tasks(task)
    for shard in shards:
        deployment.process(shard)
    asked, read = [], ObjectStore.read
    monkeypatch.setattr(ObjectStore, "read", lambda store, key, *span: asked.append(key) or read(store, key, *span))
    job = deployment.merge(task)
    assert (job.state, job.counts.chunks) == (JobState.SUCCEEDED, 40)
    assert sorted(asked) == sorted(set(asked))
    assert len(asked) <= len(shards)
    whole = deployment.read(job.output)
    monkeypatch.setattr(merges, "READ_BYTES", 1)
    again = deployment.run("text-stats", DATA, options={"chunk_bytes": 10})
    assert deployment.read(again.output) == whole
    assert len(asked) > 40


def test_the_watch_beats_while_a_record_takes_long(working, provider, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    beats = []
    beat = ShardStore.beat
    monkeypatch.setattr(ShardStore, "beat", lambda *args, **kwargs: (beats.append(kwargs), beat(*args, **kwargs)))
    waited = threading.Event()

    def slow(_):
        for _ in range(3):
            working.clock.advance(seconds=11)
            waited.wait(0.2)

    provider.trouble["line 0015"] = slow
    ended(working, begun(working, "plain"))
    assert len(beats) >= 3
