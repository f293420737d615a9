"""Shards that wait so that they can be woken: how long, by whom, and what becomes of lost and late words."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from backhaul.admission import waker as waker_module
from backhaul.model.parking import ParkedShard, Parking
from backhaul.model.policy import Policy
from backhaul.model.task import ParkTask, ShardTask
from backhaul.model.waits import MAX_UNWOKEN
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.channels import rule_of
from backhaul.providers import ProviderBusy, ProviderDenied
from backhaul.providers.provider import Breaker as BreakerSettings
from backhaul.stages.park import park
from backhaul.stages.wake import Change, wake
from backhaul.store.callbacks import Callbacks
from tests.stages.test_calls import DATA, AskOne, Model, limited, refuse, set_up

HOURS = 5 * 3600.0


class Tokens:
    """Step Functions' side of waits: each token may be answered once."""

    def __init__(self):
        self.standing = set()
        self.answered = []
        self.fails = 0

    def answer(self, token):
        if self.fails:
            self.fails -= 1
            raise ConnectionError("Step Functions does not answer")
        if token not in self.standing:
            return False
        self.standing.remove(token)
        self.answered.append(token)
        return True


@pytest.fixture
def model(monkeypatch):
    from backhaul.paid import channels as channel_module

    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


@pytest.fixture
def tokens(monkeypatch):
    made = Tokens()
    monkeypatch.setattr(Callbacks, "answer", lambda _, token: made.answer(token))
    return made


@pytest.fixture
def asking(deployment, model):
    set_up(deployment)
    return deployment.with_processors(AskOne)


def begun(asking, shards=1, **policy):
    task = asking.start("ask-one", DATA, options={"chunk_bytes": 400 // shards}, policy=Policy(**policy))
    asking.plan(task)
    return task, asking.shard_tasks(task)


def parked(asking, tokens, outcome, shard, name="first"):
    """Let the shard wait, as the state machine does."""
    tokens.standing.add(name)
    given = {"token": name, "state": state_of(shard) | {"last": outcome.to_state()}}
    store = asking.store
    return park(
        ParkTask.from_state(msgspec.json.decode(msgspec.json.encode(given))),
        jobs=store.jobs,
        providers=store.providers,
        breakers=store.breakers,
        waits=store.waits,
        callbacks=store.callbacks,
        clock=asking.clock,
    )


def state_of(shard: ShardTask):
    order = {"tenant": shard.job.tenant, "job_id": shard.job.job_id, "run": shard.run}
    return order | {"shard": msgspec.json.decode(shard.shard.to_line())}


def told(asking, before=0):
    """Tell `wake` of every change since a while."""
    changes = [Change.of(record["dynamodb"]) for record in asking.stream()[before:]]
    return wake(changes, waits=asking.store.waits, callbacks=asking.store.callbacks)


def test_a_wait_of_hours_is_one_wait_that_can_be_ended(asking, model):
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    _, (shard,) = begun(asking)
    outcome = asking.process(shard)
    assert (outcome.outcome, outcome.seconds) == ("wait", HOURS)
    assert (outcome.parking.seconds, outcome.parking.provider) == (HOURS, "acme")


def test_a_short_wait_is_not_worth_a_token(asking, model):
    refuse(model, ProviderBusy("429", retry_after=float(MAX_UNWOKEN)))
    _, (shard,) = begun(asking)
    outcome = asking.process(shard)
    assert (outcome.seconds, outcome.parking) == (MAX_UNWOKEN, None)
    assert outcome.to_state()["timeout"] == 0


def test_a_wait_under_a_limit_can_be_ended_too(deployment, model):
    asking, _, shard = limited(deployment, 1)
    outcome = asking.process(shard)
    assert outcome.parking.provider == "acme"
    assert MAX_UNWOKEN < outcome.parking.seconds == outcome.seconds <= 60


def test_no_wait_is_longer_than_the_jobs_deadline_and_who_comes_back_then_ends_the_job(asking, model, tokens):
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    task, (shard,) = begun(asking, deadline_seconds=600)
    outcome = asking.process(shard)
    assert outcome.parking.seconds == outcome.seconds == 601
    asking.clock.advance(seconds=601)
    assert asking.process(replace(shard, left=1)).outcome == "done"
    assert asking.job(task.job).stop.kind == "deadline"


def test_who_opened_the_breaker_comes_back_to_probe_and_everybody_else_sleeps_until_it_closes(asking, model):
    refuse(model, ProviderDenied("401"))
    _, shards = begun(asking, shards=2, deadline_seconds=7 * 86400)
    opened = asking.process(shards[0])
    assert 60 <= opened.parking.seconds <= 61
    other = asking.process(shards[1])  # in the same environment
    assert other.parking.seconds > 6 * 86400
    assert other.seconds <= 120  # an execution from before an update looks again by itself
    asking.clock.advance(seconds=61)
    again = asking.process(shards[0])
    assert 120 <= again.parking.seconds <= 121
    assert again.parking.epoch > opened.parking.epoch


def test_a_cooldown_doubles_up_to_half_an_hour(asking, model):
    refuse(model, ProviderDenied("401"))
    _, (shard,) = begun(asking, deadline_seconds=7 * 86400)
    waits = []
    for _ in range(8):
        waits.append(asking.process(shard).parking.seconds)
        asking.clock.advance(seconds=waits[-1])
    assert [round(each, -1) for each in waits] == [60, 120, 240, 480, 960, 1800, 1800, 1800]


@pytest.fixture
def waiting(asking, model, tokens):
    """A job whose one shard waits for hours."""
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    task, (shard,) = begun(asking)
    assert not parked(asking, tokens, asking.process(shard), shard)
    assert not tokens.answered
    return task, shard


def test_a_job_that_is_cancelled_wakes_its_shards(asking, tokens, waiting):
    task, _ = waiting
    before = len(asking.stream())
    asking.cancel(task.job)
    assert told(asking, before).shards == 1
    assert tokens.answered == ["first"]
    assert not list(asking.store.waits.of_job(task.job))
    assert not list(asking.store.waits.of_provider("acme"))


def test_a_word_that_is_heard_twice_or_too_late_changes_nothing(asking, tokens, waiting):
    task, shard = waiting
    before = len(asking.stream())
    asking.cancel(task.job)
    tokens.standing.clear()  # its time is over
    assert told(asking, before).shards == told(asking, before).shards == 0
    assert asking.process(replace(shard, left=1)).outcome == "done"


def test_a_word_that_is_late_does_not_end_the_next_wait(asking, tokens, waiting, model):
    task, shard = waiting
    (first,) = asking.store.waits.of_job(task.job)
    tokens.standing.clear()
    assert not parked(asking, tokens, asking.process(shard), shard, "second")
    assert not waker_module.Waker(asking.store.waits, asking.store.callbacks).wake(first)
    assert tokens.standing == {"second"}
    assert [each.token for each in asking.store.waits.of_job(task.job)] == ["second"]
    assert [each.token for each in asking.store.waits.of_provider("acme")] == ["second"]


def test_a_call_of_park_that_goes_on_late_does_not_take_the_place_of_the_next_wait(asking, tokens, waiting):
    task, shard = waiting
    outcome = asking.process(shard)
    tokens.standing.clear()
    assert not parked(asking, tokens, outcome, shard, "second")
    # It hung, and was made again: by now its wait is over, the shard waits anew, and the job is to stop.
    before = len(asking.stream())
    asking.cancel(task.job)
    parked(asking, tokens, outcome, shard, "first")
    tokens.answered.clear()
    told(asking, before)
    assert "second" in tokens.answered
    assert not list(asking.store.waits.of_job(task.job))
    assert not list(asking.store.waits.of_provider("acme"))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_dies_while_it_wakes_a_shard_is_followed_by_another(asking, tokens, waiting, monkeypatch, moment):
    task, _ = waiting
    before = len(asking.stream())
    asking.cancel(task.job)
    tokens.fails = moment == "before"
    with monkeypatch.context() as patch:
        if moment == "after":
            patch.setattr(type(asking.store.waits), "drop", lambda *_: (_ for _ in ()).throw(ConnectionError))
        with pytest.raises(ConnectionError):
            told(asking, before)
    told(asking, before)
    assert tokens.answered == ["first"]
    assert not list(asking.store.waits.of_job(task.job))


def test_the_sweep_wakes_whom_nobody_told_and_whose_time_out_was_lost(asking, tokens, waiting):
    task, _ = waiting
    assert "woken" not in asking.sweep()
    asking.clock.advance(seconds=HOURS + 6)
    assert asking.sweep()["woken"] == 1
    assert tokens.answered == ["first"]
    asking.cancel(task.job)
    tokens.standing.add("second")
    until = asking.clock.now() + timedelta(hours=1)
    asking.store.waits.put(ParkedShard(task.job, task.run, 0, "second", until))
    assert asking.sweep()["woken"] == 1


def test_more_shards_than_one_call_wakes_are_left_to_the_next(asking, tokens, waiting, monkeypatch):
    task, _ = waiting
    for number in range(1, 5):
        token = f"token {number}"
        tokens.standing.add(token)
        until = asking.clock.now() + timedelta(hours=1)
        asking.store.waits.put(ParkedShard(task.job, task.run, number, token, until))
    monkeypatch.setattr(waker_module, "MAX_WOKEN", 3)
    before = len(asking.stream())
    asking.cancel(task.job)
    first, second = told(asking, before), told(asking, before)
    assert (first.shards, second.shards) == (3, 2)
    assert (first.unfinished is None, second.unfinished) == (False, None)
    assert not tokens.standing


def test_what_changed_before_the_token_was_stored_ends_the_wait_at_once(asking, tokens, model):
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    task, (shard,) = begun(asking)
    outcome = asking.process(shard)
    asking.cancel(task.job)
    assert parked(asking, tokens, outcome, shard)
    assert tokens.answered == ["first"]


def test_settings_that_changed_before_the_token_was_stored_end_the_wait_at_once(asking, tokens, model):
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    _, (shard,) = begun(asking)
    outcome = asking.process(shard)
    stored = asking.store.providers.find("acme")
    changed = msgspec.structs.replace(stored.provider, timeout_seconds=33.0)
    asking.store.providers.put(changed, version=stored.version, by="operator")
    assert parked(asking, tokens, outcome, shard)


def test_a_breaker_that_closed_before_the_token_was_stored_ends_the_wait_at_once(asking, tokens, model):
    refuse(model, ProviderDenied("401"))
    _, (shard,) = begun(asking)
    outcome = asking.process(shard)
    breaker_of(asking).close(by="operator", why="a new key")
    assert parked(asking, tokens, outcome, shard)


def test_who_waits_for_a_provider_without_a_breaker_is_not_woken_by_the_one_it_had(asking, tokens, model):
    breaker_of(asking).open("it is down", by="operator", why="maintenance")
    breaker_of(asking).close(by="operator", why="it is back")
    stored = asking.store.providers.find("acme")
    changed = msgspec.structs.replace(stored.provider, breaker=BreakerSettings(enabled=False))
    asking.store.providers.put(changed, version=stored.version, by="operator")
    refuse(model, ProviderBusy("429", retry_after=HOURS))
    _, (shard,) = begun(asking)
    assert not parked(asking, tokens, asking.process(shard), shard)
    assert asking.sweep().get("woken", 0) == 0


def breaker_of(asking):
    provider = asking.store.providers.find("acme").provider
    return Breaker("acme", rule_of(provider), asking.store.breakers, asking.clock)


def record(before, after, keys):
    return Change("1", keys, before, after)


@pytest.mark.parametrize(
    ("kind", "before", "after", "wakes"),
    [
        ("BREAKER", {"epoch": {"N": "4"}}, {"epoch": {"N": "5"}, "state": {"S": "closed"}}, True),
        ("BREAKER", {"epoch": {"N": "5"}}, {"epoch": {"N": "5"}, "state": {"S": "closed"}}, False),  # a report
        ("BREAKER", {"epoch": {"N": "4"}}, {"epoch": {"N": "5"}, "state": {"S": "half-open"}}, False),
        ("PROVIDER", {"version": {"S": "a"}}, {"version": {"S": "b"}}, True),
        ("PROVIDER", {"version": {"S": "a"}}, {}, True),  # it was removed
    ],
)
def test_a_change_of_a_provider_wakes_who_waits_for_it(asking, tokens, waiting, kind, before, after, wakes):
    keys = {"pk": {"S": f"{kind}#acme"}, "sk": {"S": kind}}
    other = {"pk": {"S": f"{kind}#other"}, "sk": {"S": kind}}
    changes = [record(before, after, other), record(before, after, keys)]
    woken = wake(changes, waits=asking.store.waits, callbacks=asking.store.callbacks)
    assert (woken.shards, tokens.answered) == ((1, ["first"]) if wakes else (0, []))


def test_who_is_woken_sees_the_provider_as_it_is_now(asking, tokens, waiting, model):
    _, shard = waiting
    stored = asking.store.providers.find("acme")
    changed = msgspec.structs.replace(stored.provider, price_output=7)
    type(asking.store.providers)(asking.store._dynamodb, "flow", asking.clock).put(
        changed, version=stored.version, by="operator"
    )
    outcome = asking.process(replace(shard, left=1))
    assert outcome.parking.settings == changed.fingerprint() != stored.provider.fingerprint()


def test_the_sweep_lets_one_shard_probe_a_breaker_whose_prober_is_gone(asking, tokens, model):
    refuse(model, ProviderDenied("401"))
    _, shards = begun(asking, shards=4)
    for number, shard in enumerate(shards):
        outcome = asking.process(shard)
        assert not parked(asking, tokens, outcome, shard, f"token {number}")
    tokens.standing.discard("token 0")  # the prober's run was stopped
    asking.clock.advance(seconds=80)
    assert asking.swept().mended.get("woken", 0) == 0  # of its own time-out there is nothing left to end
    asking.clock.advance(seconds=20)
    assert asking.sweep()["woken"] == 1
    assert len(tokens.answered) == 1


def test_the_sweep_wakes_everybody_when_the_breaker_has_closed_and_nobody_said_so(asking, tokens, model):
    refuse(model, ProviderDenied("401"))
    _, shards = begun(asking, shards=4)
    for number, shard in enumerate(shards):
        parked(asking, tokens, asking.process(shard), shard, f"token {number}")
    breaker_of(asking).close(by="operator", why="a new key")
    assert asking.sweep()["woken"] == 4


def test_a_state_of_an_older_worker_is_read_as_it_was(asking):
    _, (shard,) = begun(asking)
    last = {"outcome": "wait", "seconds": 5, "attempt": 3, "overtaken": False}
    assert ShardTask.from_state(state_of(shard) | {"last": last}).left == 3
    read = ParkTask.from_state({"token": "t", "state": state_of(shard) | {"last": last}})
    assert read.parking == Parking(0)
