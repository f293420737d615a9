"""`ctx.call` in a worker: a step that is asked once, waits outside, and pauses the job when its money is spent."""

import math
import threading
from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from backhaul import Bytes, Chat, ConcurrentProcessor, Lines, Message, Processor
from backhaul.model import shard as shard_module
from backhaul.model.errors import StoreUnavailable
from backhaul.model.job import JobState
from backhaul.model.money import DOLLAR
from backhaul.model.policy import Policy
from backhaul.paid import channels as channel_module
from backhaul.paid.budget.rule import MAX_CALLS
from backhaul.paid.limit.limiter import Limiter
from backhaul.providers import (
    Answer,
    ModelRefused,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    UnreadableAnswer,
    Usage,
)
from backhaul.providers.provider import Breaker
from backhaul.store.budgets import BudgetKey
from backhaul.worker import commit as commits
from backhaul.worker import shard_run
from tests.stages.test_crashes import Crash, crash_once

DATA = b"".join(b"line %04d\n" % number for number in range(40))
ANSWERS = DATA.upper()
PRICE = {"price_input": 100, "price_output": 1000}
TAKEN = Usage(10, 20)
COST = (10 * 100 + 20 * 1000) * 1000
"""Nanodollars a call."""
LARGEST = (20 * 100 + 20 * 1000) * 1000
"""What one is estimated at, at most."""


class Model:
    """A paid model that writes in capitals, knows what it was asked, and does what a test tells it to."""

    max_texts = 0

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = Counter()
        self.keys = {}
        self.trouble = {}

    def call(self, request, *, key=None, timeout=None):
        question = request.messages[0].content
        with self.lock:
            self.asked[question] += 1
            self.keys.setdefault(question, set()).add(key)
            trouble = self.trouble.get(question, [])
            said = trouble.pop(0) if trouble else Answer(question.upper(), TAKEN)
        if isinstance(said, BaseException):
            raise said
        return said

    def twice(self):
        return {question for question, times in self.asked.items() if times > 1}


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


class AskOne(Processor):
    """Ask for every line."""

    name = "ask-one"
    reads = Lines()

    def process(self, record, ctx):
        return ctx.call("acme", Chat(messages=(Message("user", record),), max_tokens=20)).content


class AskMany(ConcurrentProcessor):
    """The same, several at a time."""

    name = "ask-many"
    reads = Lines()
    process = AskOne.process


@pytest.fixture(params=["ask-one", "ask-many"])
def name(request):
    return request.param


@pytest.fixture
def asking(deployment, model):
    set_up(deployment)
    return deployment.with_processors(AskOne, AskMany)


def set_up(deployment, **changes):
    settings = {"name": "acme", "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}
    deployment.store.providers.put(Provider(**settings | PRICE | changes), version=None, by="tests")


def begun(deployment, name, **policy):
    task = deployment.start(name, DATA, options={"chunk_bytes": 1000}, policy=Policy(**policy))
    deployment.plan(task)
    (shard,) = deployment.shard_tasks(task)
    return task, shard


def limited(deployment, per_minute):
    """A job that asks one at a time at so slow a limit that it has to wait for each call."""
    set_up(deployment, requests_per_minute=per_minute)
    asking = deployment.with_processors(AskOne)
    return asking, *begun(asking, "ask-one")


def books(deployment, job):
    state = deployment.store.budgets.get(BudgetKey.of_job(job))
    return state.spent, state.held


def test_every_record_is_asked_for_once_and_paid_for_once(asking, model, name):
    job = asking.run(name, DATA)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, ANSWERS)
    assert not model.twice()
    assert books(asking, job.ref) == (40 * COST, 0)
    usage = asking.store.budgets.get(BudgetKey.of_job(job.ref)).usage["acme"]
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (40, 400, 800)


@pytest.mark.parametrize("moment", [0, 1, 4])
def test_what_was_answered_before_a_death_is_not_paid_for_again(asking, model, monkeypatch, name, moment):
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0.0)
    task, shard = begun(asking, name)
    crash_once(monkeypatch, type(asking.store.shards), "commit", after=False, calls=moment)
    with pytest.raises(Crash):
        asking.process(shard)
    while (outcome := asking.process(shard)).outcome != "done":
        asking.clock.advance(seconds=outcome.seconds)
    job = asking.merge(task)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, ANSWERS)
    assert not model.twice()
    # What the dead worker had stored is counted at its cost. What else it held may have been spent.
    spent, held = books(asking, job.ref)
    assert held == 0
    assert 40 * COST <= spent <= 40 * COST + MAX_CALLS * LARGEST


def test_a_worker_that_finds_all_answers_stored_settles_what_the_dead_one_held(asking, model, monkeypatch):
    task, shard = begun(asking, "ask-one")
    store = type(asking.store.budgets)
    real = store.post

    def post(budgets, posting):
        if posting.after is None:
            raise Crash
        return real(budgets, posting)

    monkeypatch.setattr(store, "post", post)
    with pytest.raises(Crash):
        asking.process(shard)
    monkeypatch.setattr(store, "post", real)
    assert books(asking, task.job)[1] > 0
    assert asking.process(shard).outcome == "done"
    assert not model.twice()
    spent, held = books(asking, task.job)
    assert held == 0
    assert 40 * COST <= spent <= 40 * COST + MAX_CALLS * LARGEST


def test_the_same_call_has_the_same_key_on_every_attempt(asking, model):
    model.trouble = {"line 0003": [ProviderDown("Out.", may_be_paid=True)]}
    asking.run("ask-one", DATA)
    assert model.asked["line 0003"] == 2
    assert all(len(keys) == 1 for keys in model.keys.values())
    assert len(set.union(*model.keys.values())) == 40


def test_an_answer_that_cannot_be_read_is_a_try_of_its_record_and_of_nobody_elses(asking, model, name):
    model.trouble = {"line 0003": [UnreadableAnswer("Half of it.")] * 99}
    task, shard = begun(asking, name, max_tries=3)
    while (outcome := asking.process(shard)).outcome != "done":
        asking.clock.advance(seconds=outcome.seconds)
    record = asking.store.shards.get(task.job, 0)
    (failed,) = record.failed
    assert (failed.cause.code, failed.tries) == ("unreadable_answer", 3)
    assert model.asked["line 0003"] == 3
    assert asking.channels.to("acme").breaker.state.state == "closed"
    spent, held = books(asking, task.job)
    assert held == 0
    assert spent >= 6 * 20 * 1000 * 1000  # three at what they may take at most, and three answers


def test_a_provider_that_is_down_costs_no_record_an_attempt(asking, model, name):
    down = [ProviderDown("Out.", retry_after=20.0)] * 30
    model.trouble = {f"line {number:04d}": list(down) for number in range(40)}
    task, shard = begun(asking, name, max_tries=1)
    waits = []
    while (outcome := asking.process(shard)).outcome != "done":
        waits.append(outcome)
        asking.clock.advance(seconds=outcome.seconds)
        if asking.clock.now().timestamp() > 120 + asking.store.jobs.get(task.job).created_at.timestamp():
            model.trouble = {}
    job = asking.merge(task)
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, ANSWERS)
    assert {each.outcome for each in waits} == {"wait"}
    assert not asking.store.shards.get(task.job, 0).suspect


def refuse(model, error, times=1000):
    model.trouble = {f"line {number:04d}": [error] * times for number in range(40)}


@pytest.mark.parametrize("error", [ProviderBusy("429"), ProviderDown("503"), ProviderBusy("429", retry_after=1.0)])
def test_the_stay_away_from_a_provider_that_answers_nothing_doubles_up_to_300_seconds(deployment, model, error):
    set_up(deployment, breaker=Breaker(enabled=False))
    asking = deployment.with_processors(AskOne)
    refuse(model, error)
    _, shard = begun(asking, "ask-one", max_tries=1)
    waits = []
    for _ in range(9):
        asking.channels._known.clear()  # each attempt is another environment's
        waits.append(asking.process(shard).seconds)
        asking.clock.advance(seconds=waits[-1])
    assert waits == [1 if error.retry_after else 5, 10, 20, 40, 80, 160, 300, 300, 300]
    model.trouble = {"line 0007": [error] * 2}
    assert asking.process(shard).seconds == waits[0]  # it has answered


def test_a_worker_that_has_left_often_stays_away_for_longer_each_time_too(deployment, model, monkeypatch):
    monkeypatch.setattr(shard_run, "STAYS_AFTER", 0)
    set_up(deployment, breaker=Breaker(enabled=False))
    asking = deployment.with_processors(AskOne)
    refuse(model, ProviderBusy("429"))
    _, shard = begun(asking, "ask-one", max_tries=1)
    began = asking.clock.monotonic()
    outcome = asking.process(shard)
    assert (outcome.outcome, outcome.seconds) == ("wait", 80)  # 5, 10, 20 and 40 were slept
    assert asking.clock.monotonic() - began == pytest.approx(75, abs=2)
    asking.clock.advance(seconds=outcome.seconds)
    assert asking.process(shard).seconds == 160


def test_what_a_shard_waits_for_is_in_its_record_while_nobody_works_on_it(asking, model):
    model.trouble = {"line 0005": [ProviderBusy("Slow down.", retry_after=33.0)]}
    task, shard = begun(asking, "ask-one")
    assert asking.process(shard).seconds == 33
    record = asking.store.shards.get(task.job, 0)
    assert record.wait.what == "acme is busy"
    assert (record.wait.until - asking.clock.now()).total_seconds() == 33
    asking.clock.advance(seconds=33)
    assert asking.process(shard).outcome == "done"
    assert asking.store.shards.get(task.job, 0).wait is None


def test_a_spent_budget_pauses_the_job_and_a_higher_one_lets_it_go_on(asking, model, name):
    task, shard = begun(asking, name, max_cost="0.5")  # for 23 calls at what they cost
    while (outcome := asking.process(shard)).outcome != "done":  # what is left may be held for calls under way
        asking.clock.advance(seconds=outcome.seconds)
    job = asking.merge(task)
    assert job.state is JobState.PAUSED
    assert job.cause.code == "budget_exhausted"
    assert job.cause.message.startswith("The job's budget of $0.50 has $0.0")
    spent, held = books(asking, job.ref)
    assert held == 0
    assert spent == COST * sum(model.asked.values()) <= DOLLAR // 2
    assert sum(model.asked.values()) >= 20
    asking.store.budgets.raise_cap(BudgetKey.of_job(job.ref), DOLLAR, by="me", why="more")
    asking.redrive(job.ref)
    again = asking.finish(type(task)(job.ref, job.run + 1))
    assert (again.state, asking.read(again.output)) == (JobState.SUCCEEDED, ANSWERS)
    assert not model.twice()


def test_a_refusal_fails_its_chunk_with_its_cause_and_is_paid_for(asking, model):
    model.trouble = {"line 0005": [ModelRefused("No.", input_tokens=10, output_tokens=20)]}
    job = asking.run("ask-one", DATA, options={"chunk_bytes": 100})
    assert job.state is JobState.PARTIAL
    (missing,) = asking.receipt(job)["missing"]
    assert missing["cause"]["code"] == "model_refused"
    assert model.asked["line 0005"] == 1
    assert books(asking, job.ref) == (sum(model.asked.values()) * COST, 0)


def test_an_unknown_provider_is_the_cause_of_each_chunk_and_nothing_is_tried_again(deployment, model):
    job = deployment.with_processors(AskOne).run("ask-one", DATA)
    assert job.state is JobState.FAILED
    (missing,) = deployment.receipt(job)["missing"]
    assert missing["cause"]["code"] == "unknown_provider"
    assert "backhaul providers list" in missing["cause"]["message"]
    assert not model.asked


def test_credentials_that_are_denied_open_the_breaker_and_the_job_waits(asking, model):
    model.trouble = {f"line {number:04d}": [ProviderDenied("401")] * 9 for number in range(40)}
    task, shard = begun(asking, "ask-many", max_tries=1)
    for _ in range(3):
        outcome = asking.process(shard)
        assert outcome.outcome == "wait"
        asking.clock.advance(seconds=1)
    assert sum(model.asked.values()) <= 8
    assert "credentials" in asking.store.breakers.get("acme").reason
    assert "breaker open" in asking.store.shards.get(task.job, 0).wait.what
    assert books(asking, task.job) == (0, 0)


def test_a_turn_that_is_reserved_for_later_is_used_by_the_next_attempt(deployment, model):
    asking, task, shard = limited(deployment, 6)
    outcomes = []
    while (outcome := asking.process(shard)).outcome != "done":
        outcomes.append(outcome)
        asking.clock.advance(seconds=outcome.seconds)
    job = asking.merge(task)
    took = (asking.clock.now() - job.created_at).total_seconds()
    assert (job.state, asking.read(job.output)) == (JobState.SUCCEEDED, ANSWERS)
    assert 39 * 10 <= took <= 39 * 10 * 1.05
    assert {each.outcome for each in outcomes} == {"wait"}


def test_a_worker_that_died_leaves_no_turns_because_it_may_have_used_them(deployment, model, monkeypatch):
    asking, task, shard = limited(deployment, 6)
    outcome = asking.process(shard)
    kept = asking.store.shards.get(task.job, 0).reservations
    assert kept
    asking.clock.advance(seconds=outcome.seconds)
    crash_once(monkeypatch, type(asking.store.shards), "commit", after=False)
    with pytest.raises(Crash):
        asking.process(shard)
    asked = sum(model.asked.values())
    assert asking.store.shards.get(task.job, 0).reservations == kept
    assert asking.process(shard).outcome == "wait"
    assert sum(model.asked.values()) == asked


def test_a_worker_that_leaves_because_of_a_store_settles_and_its_turns_are_not_used_twice(
    deployment, model, monkeypatch
):
    asking, task, shard = limited(deployment, 6)
    outcome = asking.process(shard)
    kept = asking.store.shards.get(task.job, 0).reservations
    assert kept
    asking.clock.advance(seconds=outcome.seconds)
    real = type(asking.store.shards).commit

    def out_of_order(*_):
        monkeypatch.setattr(type(asking.store.shards), "commit", real)
        raise StoreUnavailable("The table does not answer.")

    monkeypatch.setattr(type(asking.store.shards), "commit", out_of_order)
    monkeypatch.setattr(commits, "COMMIT_SECONDS", 0.0)
    outcome = asking.process(shard)
    asked = sum(model.asked.values())
    assert (outcome.outcome, asked) == ("wait", 2)  # one in each attempt
    assert asking.store.shards.get(task.job, 0).reservations == kept
    assert books(asking, task.job) == (2 * COST, 0)
    # It said that it left: it did not die, and who comes next at once finds the same turns.
    assert asking.process(replace(shard, left=outcome.work.attempt)).outcome == "wait"
    assert sum(model.asked.values()) == asked


def test_a_shard_that_has_waited_often_waits_inside_and_stops_when_it_is_to(deployment, model, monkeypatch):
    monkeypatch.setattr(shard_run, "STAYS_AFTER", 2)
    asking, task, shard = limited(deployment, 6)
    for _ in range(2):
        asking.clock.advance(seconds=asking.process(shard).seconds)
    before = sum(model.asked.values())
    began = asking.clock.monotonic()
    assert asking.process(shard).outcome in ("wait", "continue")  # its time is up
    stayed = asking.clock.monotonic() - began
    assert stayed > 200
    assert sum(model.asked.values()) - before == pytest.approx(stayed / 10, abs=2)
    asking.cancel(task.job)
    began = asking.clock.monotonic()
    assert asking.process(shard).outcome == "done"
    assert asking.clock.monotonic() - began < 15


def test_a_shard_that_waits_inside_for_long_uses_all_of_its_time_and_has_committed(deployment, model, monkeypatch):
    monkeypatch.setattr(shard_run, "STAYS_AFTER", 1)
    asking, task, shard = limited(deployment, 1)
    asking.clock.advance(seconds=asking.process(shard).seconds)
    sleep, committed = asking.clock.sleep, []

    def looking(seconds):
        opened = asking.store.shards.get(task.job, 0).open
        committed.append((sum(model.asked.values()), opened.records if opened else 0))
        sleep(seconds)

    monkeypatch.setattr(asking.clock, "sleep", looking)
    began = asking.clock.monotonic()
    asking.process(shard)
    assert asking.clock.monotonic() - began > 200
    assert sum(model.asked.values()) in (5, 6)
    assert (4, 4) in committed


def test_in_another_run_a_shard_waits_outside_again(deployment, model, monkeypatch):
    monkeypatch.setattr(shard_run, "STAYS_AFTER", 1)
    asking, task, shard = limited(deployment, 6)
    asking.clock.advance(seconds=asking.process(shard).seconds)
    asking.cancel(task.job)
    assert asking.process(shard).outcome == "done"
    asking.merge(task)
    again = type(task)(task.job, asking.redrive(task.job).job.run)
    asking.plan(again)
    (shard,) = asking.shard_tasks(again)
    began = asking.clock.monotonic()
    assert asking.process(shard).outcome == "wait"
    assert asking.clock.monotonic() - began < 10


def test_a_shard_that_waits_inside_leaves_when_its_job_is_cancelled(deployment, model, monkeypatch):
    monkeypatch.setattr(shard_run, "STAYS_AFTER", 0)
    asking, task, shard = limited(deployment, 1)
    sleep, slept = asking.clock.sleep, []

    def cancelling(seconds):
        slept.append(seconds)
        if sum(slept) > 20 and sum(slept) - seconds <= 20:
            asking.cancel(task.job)
        sleep(seconds)

    monkeypatch.setattr(asking.clock, "sleep", cancelling)
    assert asking.process(shard).outcome == "done"
    assert 20 < sum(slept) <= 35


class TestTheCache:
    def test_what_another_job_has_asked_is_not_paid_for_again(self, asking, model, name):
        first = asking.run("ask-one", DATA, policy=Policy(cache=True))
        second = asking.run(name, DATA, policy=Policy(cache=True))
        assert asking.read(first.output) == asking.read(second.output) == ANSWERS
        assert not model.twice()
        assert books(asking, second.ref) == (0, 0)
        usage = asking.store.budgets.get(BudgetKey.of_job(second.ref)).usage["acme"]
        assert (usage.calls, usage.nanodollars, usage.saved) == (0, 0, 40 * COST)

    def test_what_cannot_be_shared_for_now_is_not_paid_for_again_by_its_own_job(self, asking, model, monkeypatch):
        def down(*_, **__):
            raise ConnectionError("the table does not answer")

        monkeypatch.setattr(asking.store.answers, "keep", down)
        job = asking.run("ask-one", DATA, policy=Policy(cache=True))
        assert asking.read(job.output) == ANSWERS
        assert not model.twice()

    def test_nothing_is_shared_by_default(self, asking, model):
        asking.run("ask-one", DATA, policy=Policy(cache=True))
        asking.run("ask-one", DATA)
        assert set(model.asked.values()) == {2}

    def test_nothing_is_shared_with_another_tenant(self, asking, model):
        for tenant in ("AIDAONE", "AIDATWO"):
            asking.run("ask-one", DATA, tenant=tenant, policy=Policy(cache=True))
        assert set(model.asked.values()) == {2}

    def test_another_model_is_another_question(self, asking, deployment, model):
        asking.run("ask-one", DATA, policy=Policy(cache=True))
        found = deployment.store.providers.find("acme")
        deployment.store.providers.put(
            msgspec.structs.replace(found.provider, model="m2"), version=found.version, by="tests"
        )
        asking.run("ask-one", DATA, policy=Policy(cache=True))
        assert set(model.asked.values()) == {2}

    def test_an_answer_that_was_cut_off_is_asked_for_again(self, asking, model):
        model.trouble = {"line 0007": [Answer("LINE 00", TAKEN, "length")]}
        for _ in range(2):
            asking.run("ask-one", DATA, policy=Policy(cache=True))
        assert model.twice() == {"line 0007"}

    def test_a_large_answer_is_kept_as_well_and_none_for_longer_than_its_job(self, asking, model):
        large = "x" * 300_000
        model.trouble = {"line 0007": [Answer(large, TAKEN)]}
        for _ in range(2):
            job = asking.run("ask-one", DATA, policy=Policy(cache=True))
            assert large.encode() in asking.read(job.output)
        assert not model.twice()
        asking.clock.advance(days=31)
        asking.run("ask-one", DATA, policy=Policy(cache=True))
        assert set(model.asked.values()) == {2}


# --- what is to come


@pytest.fixture
def told(monkeypatch):
    """How many calls the limit was told are to come, each time it was asked."""
    found, ask = [], Limiter.ask

    def listening(limiter, tokens=0, further_calls=math.inf):
        found.append(further_calls)
        return ask(limiter, tokens, further_calls)

    monkeypatch.setattr(Limiter, "ask", listening)
    return found


def test_a_limit_knows_how_many_calls_the_rest_of_a_shard_needs(deployment, model, told, monkeypatch, name):
    monkeypatch.setattr(shard_module, "_SHARDS_PER_JOB", 1)
    set_up(deployment, requests_per_minute=60_000)
    asking = deployment.with_processors(AskOne, AskMany)
    job = asking.run(name, DATA, options={"chunk_bytes": 200})
    assert asking.read(job.output) == ANSWERS
    assert len(told) == 40
    assert told[:20] == [math.inf] * 20  # another chunk follows
    last = told[20:]
    if name == "ask-one":
        assert last == list(range(19, -1, -1))
    else:  # threads ask when records after theirs are begun, and in any order
        assert min(last) == 0
        assert max(last) <= 19


def test_a_record_that_has_asked_often_may_go_on(deployment, model, told):
    class AskAll(Processor):
        """Ask for every line of the one record that there is."""

        name = "ask-all"
        reads = Bytes()

        def process(self, record, ctx):
            lines = record.decode().splitlines()
            return "".join(f"{AskOne.process(self, line, ctx)}\n" for line in lines).encode()

    set_up(deployment, requests_per_minute=60_000)
    asking = deployment.with_processors(AskAll)
    job = asking.run("ask-all", DATA)
    assert asking.read(job.output) == ANSWERS
    assert told == list(range(40))
