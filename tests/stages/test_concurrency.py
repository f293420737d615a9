"""Records that wait for something else are worked on side by side; nothing else is different."""

import threading
from collections import Counter
from dataclasses import replace

import pytest

from backhaul import ConcurrentProcessor, Lines, Transient
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import JobState
from backhaul.model.policy import Policy
from backhaul.worker import commit as commits
from backhaul.worker import watchdog
from tests.stages.test_crashes import Crash, crash_once

DATA = b"".join(b"line %04d\n" % number for number in range(60))


class Provider:
    """A slow API: knows how many ask at a time, and does what a test tells it to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = Counter()
        self.now = self.most = 0
        self.trouble = {}

    def ask(self, question):
        with self.lock:
            self.calls[question] += 1
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            trouble = self.trouble.get(question)
            if trouble is not None:
                trouble()
            threading.Event().wait(0.002)
            return question.upper()
        finally:
            with self.lock:
                self.now -= 1

    def repeated(self):
        return {question: count for question, count in self.calls.items() if count > 1}


@pytest.fixture
def provider():
    return Provider()


@pytest.fixture
def asking(deployment, provider):
    class Asking(ConcurrentProcessor):
        """Ask about every line, in a step, and drop every tenth line."""

        name = "asking"
        reads = Lines()

        def process(self, record, ctx):
            ctx.tally("asked")
            answer = ctx.step("ask", lambda: provider.ask(record))
            return None if record.endswith("0") else answer

    return deployment.with_processors(Asking)


EXPECTED = b"".join(line.upper() for line in DATA.splitlines(keepends=True) if not line.endswith(b"0\n"))


def begun(deployment, policy=None, **options):
    task = deployment.start("asking", DATA, options={"chunk_bytes": 1000} | options, policy=policy or Policy())
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    return task, shard


def ended(deployment, task, shard):
    while (outcome := deployment.process(shard)).outcome != "done":
        deployment.clock.advance(seconds=outcome.seconds)
    return deployment.merge(task)


def test_records_are_worked_on_side_by_side_and_come_out_in_order(asking, provider):
    task, shard = begun(asking)
    job = ended(asking, task, shard)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, EXPECTED)
    assert (job.counts.records, job.counts.tallies) == (60, {"asked": 60})
    assert 1 < provider.most <= 8
    assert not provider.repeated()


def test_the_option_says_how_many(asking, provider):
    task, shard = begun(asking, concurrency=3)
    ended(asking, task, shard)
    assert provider.most <= 3


@pytest.mark.parametrize("moment", [0, 7, 30])
def test_a_worker_that_dies_pays_for_nothing_again(asking, provider, monkeypatch, moment):
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0.0)
    task, shard = begun(asking)
    crash_once(monkeypatch, type(asking.store.shards), "commit", after=False, calls=moment)
    with pytest.raises(Crash):
        asking.process(shard)
    job = ended(asking, task, shard)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, EXPECTED)
    assert not provider.repeated()


def test_a_failure_names_its_record_and_costs_its_chunk(asking, provider):
    def fail():
        raise ValueError("bad")

    provider.trouble["line 0037"] = fail
    task = asking.start("asking", DATA, options={"chunk_bytes": 100})
    asking.plan(task)
    for shard in asking.shard_tasks(task):
        assert asking.process(shard).outcome == "done"
    job = asking.merge(task)
    (missing,) = asking.receipt(job)["missing"]
    assert (missing["index"], missing["record"]) == (3, 370)
    assert job.counts.records == 50


def test_a_failure_that_passes_is_tried_again_and_the_others_are_not_asked_again(asking, provider):
    def once():
        provider.trouble.clear()
        raise Transient("busy")

    provider.trouble["line 0020"] = once
    task, shard = begun(asking)
    job = ended(asking, task, shard)
    assert asking.read(job.output) == EXPECTED
    assert provider.repeated() == {"line 0020": 2}


def test_a_record_that_waits_for_something_outside_loses_no_attempt(asking, provider):
    def wait():
        raise Interrupted(InterruptReason.WAIT, 6.5)

    provider.trouble["line 0020"] = wait
    task, shard = begun(asking, policy=Policy(max_tries=1))
    for _ in range(5):
        outcome = asking.process(shard)
        assert (outcome.outcome, outcome.seconds) == ("wait", 7)
        asking.clock.advance(seconds=7)
    provider.trouble.clear()
    job = ended(asking, task, shard)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, EXPECTED)
    assert provider.repeated() == {"line 0020": 6}


def test_a_record_that_takes_too_long_ends_alone(asking, provider, monkeypatch):
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    stuck = threading.Event()

    def hang():
        while not stuck.wait(0.02):
            asking.clock.advance(seconds=0.5)

    provider.trouble["line 0005"] = hang
    task, shard = begun(asking, policy=Policy(max_tries=1, record_seconds=5))
    outcome = asking.process(shard)
    stuck.set()
    assert outcome.outcome == "done"
    job = asking.merge(task)
    (missing,) = asking.receipt(job)["missing"]
    assert (missing["record"], missing["cause"]["code"]) == (50, "record_timeout")
    assert not provider.repeated()


def test_a_job_that_is_cancelled_keeps_what_was_done_in_order(asking, provider, monkeypatch):
    monkeypatch.setattr(watchdog, "BEAT_SECONDS", 0.0)
    task, shard = begun(asking)
    provider.trouble["line 0030"] = lambda: asking.cancel(task.job)
    assert asking.process(shard).outcome == "done"
    job = asking.merge(task)
    assert job.state is JobState.CANCELLED
    assert 30 < sum(provider.calls.values()) < 60
    again = asking.redrive(task.job)
    rest = replace(task, run=again.job.run)
    asking.plan(rest)
    (shard,) = asking.shard_tasks(rest)
    job = ended(asking, rest, shard)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, EXPECTED)
    assert not provider.repeated()
