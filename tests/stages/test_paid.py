"""A guarded call: it is made when budget, breaker and limit let it, and what it took is settled, however it ends."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from backhaul.admission.waker import has_closed
from backhaul.model.errors import OperatorError, Transient
from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import JobRef
from backhaul.model.limit import SECOND, Rate
from backhaul.model.money import DOLLAR
from backhaul.model.parking import ParkedShard
from backhaul.model.waits import MAX_SLEEP
from backhaul.paid import channels as channel_module
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import BreakerRule
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.rule import Caps, Holder, OutOfReach
from backhaul.paid.calls import PaidCalls
from backhaul.paid.channels import Channels, rate_of
from backhaul.paid.limit.limiter import Limiter
from backhaul.paid.limit.rule import LOOK
from backhaul.providers import (
    Answer,
    Chat,
    Embed,
    Message,
    ModelRefused,
    PromptTooLong,
    Provider,
    ProviderBusy,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    RateLimits,
    UnknownProvider,
    Usage,
    max_estimate,
)
from backhaul.store.budgets import BudgetKey, ProviderUsage

JOB = JobRef("T1", "01kb3x5s0qf8m2v9d7c6t4h1zn")
ASK = Chat(messages=(Message("user", "How are you?"),), max_tokens=100)
TAKEN = Usage(10, 20)
PRICES = {"price_input": 100, "price_output": 1000}
COST = (10 * 100 + 20 * 1000) * 1000
"""Nanodollars: a price is for a million tokens."""
SECRET_KEY = "k-1"  # an idempotency key


class Model:
    """An adapter that answers as a test tells it to, and knows what it was asked."""

    max_texts = 16

    def __init__(self):
        self.asked = []
        self.says = []

    def call(self, request, *, key=None, timeout=None):
        self.asked.append((request, key, timeout))
        said = self.says.pop(0) if self.says else Answer("Fine.", TAKEN)
        if isinstance(said, BaseException):
            raise said
        return said


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr(channel_module, "open_provider", lambda *_, **__: made)
    return made


class PaidWorker:
    """A worker: its channels, and the attempts that use them."""

    def __init__(self, deployment, **provider):
        self.deployment, self.clock = deployment, deployment.clock
        store = deployment.store
        settings = {"name": "acme", "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}
        store.providers.put(Provider(**settings | PRICES | provider), version=None, by="tests")
        self.channels = Channels(
            store.providers, store.secrets, store.models, store.limits, store.breakers, deployment.clock
        )
        self.paused = []

    def attempt(self, *, shard=0, number=1, seconds=300.0, **caps):
        budget = Budget(Holder(JOB, shard, number), Caps(**caps), self.deployment.store.budgets, self.clock)
        ends_at = self.clock.monotonic() + seconds
        return PaidCalls(self.channels, budget, ends_at=ends_at, total_seconds=300.0, pause=self.paused.append)

    def books(self):
        state = self.deployment.store.budgets.get(BudgetKey.of_job(JOB))
        return state.spent, state.held


@pytest.fixture
def worker(deployment, model):
    return PaidWorker(deployment)


def ask(calls, request=ASK, *, key=SECRET_KEY, generation=0, **changes):
    return calls.ask("acme", request, key=key, generation=generation, keep=lambda paid: paid, **changes).answer


def waits(calls, **changes):
    with pytest.raises(Interrupted) as told:
        ask(calls, **changes)
    assert told.value.reason is InterruptReason.WAIT
    return told.value.seconds


def fails_first(calls):
    with pytest.raises(Interrupted) as told:
        ask(calls)
    assert told.value.reason is InterruptReason.AGAIN
    assert 0 < told.value.seconds <= MAX_SLEEP


def test_a_call_is_made_once_and_what_it_took_is_settled(worker, model):
    calls = worker.attempt()
    assert ask(calls).content == "Fine."
    calls.settle_all()
    assert model.asked == [(ASK, SECRET_KEY, 60.0)]
    assert worker.books() == (COST, 0)
    usage = worker.deployment.store.budgets.get(BudgetKey.of_job(JOB)).usage["acme"]
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (1, 10, 20)


def test_a_provider_that_is_not_there_is_named(worker):
    with pytest.raises(UnknownProvider, match="nobody"):
        worker.attempt().ask("nobody", ASK, key=SECRET_KEY, generation=0, keep=lambda paid: paid)


def test_a_change_of_the_settings_is_seen(worker, deployment, model):
    first = worker.channels.to("acme")
    found = deployment.store.providers.find("acme")
    changed = Provider(name="acme", kind="openai", base_url="https://api.acme.example/v2", model="m")
    deployment.store.providers.put(changed, version=found.version, by="tests")
    assert worker.channels.to("acme").provider.base_url.endswith("v2")
    assert worker.channels.to("acme") is not first


def test_a_request_beyond_the_models_window_is_not_sent(deployment, model):
    calls = PaidWorker(deployment, context_tokens=5).attempt()
    with pytest.raises(PromptTooLong, match="takes 5"):
        ask(calls, Chat(messages=(Message("user", "word " * 50),)))
    assert not model.asked


def test_a_spent_budget_pauses_the_job_before_the_call(worker, model):
    calls = worker.attempt(job=COST)
    with pytest.raises(Interrupted) as told:
        ask(calls)
    assert told.value.reason is InterruptReason.STOP
    (spent,) = worker.paused
    assert (spent.scope, spent.cap) == ("job", COST)
    assert not model.asked


def test_a_cap_is_kept_by_what_calls_may_take_and_settled_by_what_they_took(worker, model):
    calls = worker.attempt(job=DOLLAR)
    made = 0
    while not worker.paused:
        try:
            ask(calls)
        except Interrupted as told:
            assert told.reason in (InterruptReason.STOP, InterruptReason.WAIT)  # noqa: PT017  # either may come near the cap
            if told.reason is InterruptReason.WAIT:
                calls.settle_all()
                worker.clock.advance(seconds=told.seconds)
                calls = worker.attempt(number=2 + made, job=DOLLAR)
            continue
        made += 1
    calls.settle_all()
    spent, held = worker.books()
    assert held == 0
    assert spent == made * COST <= DOLLAR
    assert spent > 0.9 * DOLLAR - worker.channels.to("acme").provider.cost(max_estimate(ASK))


def test_calls_keep_the_limit_and_short_waits_are_slept(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=60)
    calls = worker.attempt()
    before = worker.clock.monotonic()
    for _ in range(5):
        ask(calls)
    assert worker.clock.monotonic() - before == pytest.approx(4.0, abs=1.1)


def test_a_long_wait_leaves_and_its_turn_is_kept_for_the_next_attempt(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=6)
    calls = worker.attempt()
    ask(calls)
    seconds = waits(calls)
    assert MAX_SLEEP < seconds < 10.1
    kept = calls.hand_over_reservations()
    calls.settle_all()
    assert kept.keys() == {"acme"}
    worker.clock.advance(seconds=seconds)
    again = worker.attempt(number=2)
    again.accept_reservations(kept)
    before = worker.clock.monotonic()
    assert ask(again).content == "Fine."
    assert worker.clock.monotonic() - before <= MAX_SLEEP
    assert not again.hand_over_reservations()
    assert len(model.asked) == 2


def test_what_is_left_of_a_lease_goes_to_the_next_attempt(deployment, model, monkeypatch):
    worker = PaidWorker(deployment, requests_per_minute=600)
    calls = worker.attempt()
    ask(calls)
    others = Limiter("acme", Rate(600), deployment.store.limits, worker.clock)
    for _ in range(50):  # a queue of five seconds
        others.ask()
    worker.channels.to("acme").limiter.ask()  # now it knows of the queue
    waits(calls)
    lease = worker.channels.to("acme").limiter.lease
    assert lease.calls > 5
    kept = calls.hand_over_reservations()
    calls.settle_all()
    assert worker.channels.to("acme").limiter.lease is None
    again = worker.attempt(number=2)
    again.accept_reservations(kept)
    worker.clock.advance(seconds=5)
    monkeypatch.setattr(worker.channels.limits, "update", lambda *_: pytest.fail("it is reserved already"))
    for _ in range(1 + lease.calls):
        ask(again)


def test_a_turn_that_is_too_old_is_not_used(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=6)
    calls = worker.attempt()
    ask(calls)
    waits(calls)
    kept = calls.hand_over_reservations()
    calls.settle_all()
    worker.clock.advance(seconds=120)
    again = worker.attempt(number=2)
    again.accept_reservations(kept)
    ask(again)
    assert not again.hand_over_reservations()


def test_who_oversleeps_takes_another_turn(deployment, model, monkeypatch):
    worker = PaidWorker(deployment, requests_per_minute=60)
    calls = worker.attempt()
    ask(calls)
    slept, sleep = [], worker.clock.sleep

    def oversleep(seconds):
        slept.append(seconds)
        sleep(seconds + (3.0 if len(slept) == 1 else 0.0))

    monkeypatch.setattr(worker.clock, "sleep", oversleep)
    before = worker.clock.monotonic()
    ask(calls)
    assert len(slept) == 2
    assert worker.clock.monotonic() - before > 4.0


def test_who_always_oversleeps_calls_all_the_same(deployment, model, monkeypatch):
    worker = PaidWorker(deployment, requests_per_minute=60)
    calls = worker.attempt()
    sleep = worker.clock.sleep
    monkeypatch.setattr(worker.clock, "sleep", lambda seconds: sleep(seconds + 3.0))
    ask(calls)
    assert len(model.asked) == 1


def test_a_busy_provider_costs_no_attempt_and_closes_the_limit_for_everybody(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=600)
    model.says = [ProviderBusy("busy", 7.0)]
    calls = worker.attempt()
    assert waits(calls) == 7.0
    other = worker.attempt(shard=1)
    assert waits(other) > 4.0
    assert len(model.asked) == 1
    calls.settle_all()
    other.settle_all()
    assert worker.books() == (0, 0)


def test_an_answer_that_says_that_nothing_is_left_holds_everybody_back(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=600)
    model.says = [Answer("Fine.", TAKEN, limits=RateLimits(requests_limit=10, requests_left=0, requests_reset=60.0))]
    calls = worker.attempt()
    ask(calls)
    assert waits(worker.attempt(shard=1)) > 3.0
    assert len(model.asked) == 1


def test_a_key_that_cannot_be_read_for_a_moment_is_no_probe_that_went_well(worker, model):
    model.says = [ProviderDenied("no")]
    calls = worker.attempt()
    waits(calls)
    worker.clock.advance(seconds=120)
    model.says = [Transient("the secret store is busy")]
    waits(calls)
    assert worker.channels.to("acme").breaker.state.state != "closed"
    calls.settle_all()
    assert worker.books() == (0, 0)


def test_a_key_that_cannot_be_read_at_first_costs_no_attempt_either(worker, model, monkeypatch):
    tried = []

    def opening(*_, **__):
        tried.append(1)
        if len(tried) == 1:
            raise Transient("the secret store is busy")
        return model

    monkeypatch.setattr(channel_module, "open_provider", opening)
    calls = worker.attempt()
    waits(calls)
    assert ask(calls).content == "Fine."


def test_the_answer_to_a_call_that_was_given_up_is_not_paid_for_again(worker, model, monkeypatch):
    begun, go, real = threading.Event(), threading.Event(), model.call

    def slow(*asked, **options):
        begun.set()
        assert go.wait(10)
        return real(*asked, **options)

    monkeypatch.setattr(model, "call", slow)
    calls = worker.attempt()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, calls)
        assert begun.wait(10)
        again = calls.begin()
        go.set()
        assert late.result().content == "Fine."
    assert ask(calls, generation=again).content == "Fine."
    assert len(model.asked) == 1
    calls.settle_all()
    assert worker.books() == (COST, 0)


@pytest.mark.parametrize("ends", ["begin", "hand_over_reservations", "settle_all"])
def test_a_thread_that_was_given_up_asks_nothing_more_and_holds_no_money(worker, model, ends):
    calls = worker.attempt()
    ask(calls)
    getattr(calls, ends)()
    with pytest.raises(Interrupted):
        ask(calls, key=OTHER_KEY)
    calls.settle_all()
    calls.settle_all()
    assert len(model.asked) == 1
    assert worker.books() == (COST, 0)


def test_after_an_attempt_has_left_nothing_is_drawn_from_its_budget(deployment):
    budget = Budget(Holder(JOB, 0, 1), Caps(job=DOLLAR), deployment.store.budgets, deployment.clock)
    budget.settle(budget.hold(COST), "acme", ProviderUsage(1, 10, 20, COST))
    budget.settle_all()
    assert isinstance(budget.hold(COST), OutOfReach)
    state = deployment.store.budgets.get(BudgetKey.of_job(JOB))
    assert (state.spent, state.held) == (COST, 0)


def test_what_was_kept_before_and_not_needed_yet_is_kept_again(deployment, model):
    worker = PaidWorker(deployment, requests_per_minute=6)
    calls = worker.attempt()
    ask(calls)
    waits(calls)
    kept = calls.hand_over_reservations()
    assert kept
    calls.settle_all()
    again = worker.attempt(number=2)
    again.accept_reservations(kept)
    assert again.hand_over_reservations() == kept
    assert not again.hand_over_reservations()


def test_what_goes_wrong_after_a_paid_call_does_not_lose_its_answer(worker, model, monkeypatch):
    def denied(*_):
        raise PermissionError("no such table")

    calls = worker.attempt()
    for owner, name in ((Breaker, "report"), (Budget, "settle"), (Limiter, "used")):
        monkeypatch.setattr(owner, name, denied)
    assert ask(calls).content == "Fine."


@pytest.mark.parametrize(("may_be_paid", "taken"), [(True, 1000), (False, 0)])
def test_of_a_call_that_may_have_been_made_all_its_tokens_count(deployment, model, may_be_paid, taken):
    worker = PaidWorker(deployment, tokens_per_minute=60_000)
    model.says = [ProviderDown("cut", may_be_paid=may_be_paid)]
    calls = worker.attempt()
    with pytest.raises(Interrupted):
        ask(calls, estimate=Usage(600, 400))
    calls.settle_all()
    state = deployment.store.limits.update("acme", LOOK).before
    assert (state.tokens - state.clock) / SECOND == pytest.approx(taken / 1000, abs=0.1)


OTHER_KEY = "k-2"  # another call's


def test_a_first_failure_is_nobodys_and_soon_tried_again(worker, model):
    calls = worker.attempt()
    ask(calls)
    model.says = [ProviderDown("down")]
    fails_first(calls)
    assert ask(calls).content == "Fine."


def test_in_an_outage_no_call_is_a_failure_of_its_record_however_often_it_is_made(worker, model):
    calls = worker.attempt()
    ask(calls)
    model.says = [ProviderDown("down") for _ in range(6)]
    fails_first(calls)
    assert min(waits(calls) for _ in range(3)) > MAX_SLEEP


def test_a_call_that_fails_again_while_others_are_answered_is_a_failure_of_its_record(worker, model):
    calls = worker.attempt()
    model.says = [ProviderDown("down"), Answer("Fine.", TAKEN), ProviderDown("down")]
    fails_first(calls)
    worker.clock.advance(seconds=1)
    ask(calls, key=OTHER_KEY)
    with pytest.raises(ProviderDown):
        ask(calls)


def test_an_answer_to_a_call_that_began_before_the_failure_says_nothing_of_it(worker, model):
    calls = worker.attempt()
    channel = worker.channels.to("acme")
    began = worker.clock.monotonic()
    worker.clock.advance(seconds=1)
    model.says = [ProviderDown("down"), ProviderDown("down")]
    fails_first(calls)
    channel.note_answer(OTHER_KEY, began)  # it was under way
    assert waits(calls) > MAX_SLEEP


@pytest.mark.parametrize(("may_be_paid", "spent"), [(True, True), (False, False)])
def test_what_may_have_been_paid_is_spent(worker, model, may_be_paid, spent):
    model.says = [ProviderDown("down", may_be_paid=may_be_paid)]
    calls = worker.attempt()
    fails_first(calls)
    calls.settle_all()
    estimate = worker.channels.to("acme").provider.cost(max_estimate(ASK))
    assert worker.books() == (estimate if spent else 0, 0)


def test_an_outage_opens_the_breaker_and_nobody_calls_until_a_probe_is_let_through(worker, model):
    model.says = [ProviderDown("down") for _ in range(50)]
    calls = worker.attempt(seconds=3000)
    fails_first(calls)
    for _ in range(30):
        worker.clock.advance(seconds=waits(calls) and 0.5)
    made = len(model.asked)
    assert 10 <= made < 20
    assert worker.channels.to("acme").breaker.state.state == "open"
    model.says = []
    worker.clock.advance(seconds=60)
    assert ask(calls).content == "Fine."
    assert len(model.asked) == made + 1
    assert worker.channels.to("acme").breaker.state.state == "closed"


def test_a_key_that_is_denied_opens_the_breaker_at_once(worker, model):
    model.says = [ProviderDenied("no")]
    calls = worker.attempt()
    waits(calls)
    waits(calls)
    assert len(model.asked) == 1
    assert worker.channels.to("acme").breaker.state.reason == "credentials"
    calls.settle_all()
    assert worker.books() == (0, 0)


def test_a_shard_waits_for_the_breaker_that_refused_its_call_also_if_another_thread_has_seen_it_closed(worker, model):
    model.says = [ProviderDenied("no")]
    waits(worker.attempt())
    calls = worker.attempt(shard=1)
    waits(calls)
    breakers = worker.deployment.store.breakers
    Breaker("acme", BreakerRule(), breakers, worker.clock).close(by="operator", why="a new key")
    worker.clock.advance(seconds=3)
    assert ask(calls).content == "Fine."
    parking = calls.parking("acme", 90)
    until = worker.clock.now() + timedelta(seconds=parking.seconds)
    assert has_closed(breakers.get("acme"), ParkedShard(JOB, 1, 1, "token", until, parking.provider, parking.epoch))


def test_a_refusal_of_the_model_is_paid_for_and_is_the_records(worker, model):
    model.says = [ModelRefused("no", input_tokens=10, output_tokens=20)]
    calls = worker.attempt()
    with pytest.raises(ModelRefused):
        ask(calls)
    calls.settle_all()
    assert worker.books() == (COST, 0)


@pytest.mark.parametrize("error", [ProviderRejected("no"), OperatorError("no key")])
def test_what_was_never_done_costs_nothing(worker, model, error):
    model.says = [error]
    calls = worker.attempt()
    with pytest.raises(type(error)):
        ask(calls)
    calls.settle_all()
    assert worker.books() == (0, 0)


def test_a_call_that_is_cut_off_is_spent_at_its_estimate(worker, model):
    model.says = [Interrupted(InterruptReason.TOO_SLOW)]
    calls = worker.attempt()
    with pytest.raises(Interrupted):
        ask(calls)
    calls.settle_all()
    assert worker.books() == (worker.channels.to("acme").provider.cost(max_estimate(ASK)), 0)


def test_no_call_begins_that_may_be_cut_off_by_the_attempts_end(worker, model):
    assert waits(worker.attempt(seconds=59.0)) == 0
    assert not model.asked
    assert ask(worker.attempt(number=2, seconds=61.0)).content == "Fine."


def test_estimates_are_of_what_a_call_takes_at_most():
    assert max_estimate(ASK).output_tokens == 100
    assert max_estimate(Chat(messages=ASK.messages)).output_tokens == 1024
    assert max_estimate(Embed(texts=("a text",))).output_tokens == 0


@pytest.mark.parametrize(
    ("limits", "rate"),
    [
        ({}, None),
        ({"requests_per_minute": 600}, (600, None)),
        ({"tokens_per_minute": 9000}, (60_000, 9000)),
    ],
)
def test_a_limit_is_what_the_provider_is_set_up_with(limits, rate):
    found = rate_of(Provider(name="a", kind="openai", base_url="https://a.example", model="m", **limits))
    assert (found and (found.requests, found.tokens)) == rate


def test_a_burst_is_counted_in_calls():
    provider = Provider(
        name="a", kind="openai", base_url="https://a.example", model="m", requests_per_minute=60, burst=3
    )
    assert rate_of(provider).burst == 3_000_000
