"""Breakers over DynamoDB: counts add up, a change happens once, and what was sent twice counts once."""

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from backhaul.model.breaker import BreakerState, Count, Phase
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import (
    BreakerRule,
    CallReport,
    CallResult,
    OpenBreaker,
    Permit,
    Probe,
    closed,
    half_opened,
    opened,
    recent,
)
from tests.stages.test_dispatch import in_threads

NAME = "openai/gpt-5.2 #eu"
"""With what a name must never be to DynamoDB: a path or a placeholder."""
RULE = BreakerRule()
CLOSED, OPEN, HALF_OPEN = Phase.CLOSED, Phase.OPEN, Phase.HALF_OPEN


@pytest.fixture
def store(deployment):
    return deployment.store.breakers


def worker(deployment, rule=RULE, on_change=lambda _: None):
    return Breaker(NAME, rule, deployment.store.breakers, deployment.clock, on_change)


def token():
    return secrets.token_hex(8)


def calls_of(breaker, method):
    """Count the calls of a client's method."""
    client, counted = breaker._client, []
    real = getattr(client, method)
    setattr(client, method, lambda **options: counted.append(options) or real(**options))
    return counted


def lose_answers(client, monkeypatch, count):
    """Apply the next requests and answer each with an error, as a server does that dies between."""
    left, answered = iter(range(count)), client._endpoint._get_response

    def losing(request, operation_model, context):
        answer, error = answered(request, operation_model, context)
        if answer and next(left, None) is not None:
            http, parsed = answer
            http.status_code = parsed["ResponseMetadata"]["HTTPStatusCode"] = 500
            parsed["Error"] = {"Code": "InternalServerError", "Message": "the answer was lost"}
        return answer, error

    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr(client._endpoint, "_get_response", losing)


def test_a_provider_that_never_failed_is_closed(store):
    assert store.get(NAME) == BreakerState(NAME)


def test_counts_of_many_add_up_and_stale_ones_go(store):
    first = store.count(BreakerState(NAME), {7: Count(5, 1)}, token())
    assert first.counts == {7: Count(5, 1)}
    second = store.count(first, {7: Count(2, 1, 1), 9: Count(3, 0)}, token())
    assert second.counts == store.get(NAME).counts == {7: Count(7, 2, 1), 9: Count(3, 0)}
    assert store.count(second, {30: Count(1, 0)}, token(), stale=[7, 9]).counts == {30: Count(1, 0)}


def test_counts_that_are_sent_twice_count_once(store):
    sent = token()
    first = store.count(BreakerState(NAME), {7: Count(5, 1)}, sent)
    assert store.count(first, {7: Count(5, 1)}, sent) == first
    assert store.count(first, {7: Count(5, 1)}, token()).counts == {7: Count(10, 2)}


def test_the_client_itself_repeats_counts_whose_answer_was_lost(store, monkeypatch):
    first = store.count(BreakerState(NAME), {7: Count(1, 0)}, token())
    lose_answers(store._client, monkeypatch, 1)
    assert store.count(first, {7: Count(5, 1)}, token()).counts == {7: Count(6, 1)}


def test_counts_of_an_epoch_that_is_over_are_dropped(deployment, store):
    before = store.count(BreakerState(NAME), {7: Count(5, 5)}, token())
    after = store.move(before, opened(before, RULE, deployment.clock.now(), "failures"), token())
    assert store.count(before, {7: Count(5, 5)}, token()) == after
    assert store.get(NAME) == after
    assert after.counts == {}


def test_every_field_of_a_state_is_stored(deployment, store):
    now = deployment.clock.now()
    state = BreakerState(NAME, 1, HALF_OPEN, "r", now, now + timedelta(seconds=1), 15, "ann", "why", "owner", now)
    assert store.move(BreakerState(NAME), state, token()) == state
    assert store.get(NAME) == state
    bare = BreakerState(NAME, 2)
    assert store.move(state, bare, token()) == bare
    assert store.get(NAME) == bare


def test_of_many_who_change_the_state_one_has_done_it(deployment, store):
    state = BreakerState(NAME)
    after = opened(state, RULE, deployment.clock.now(), "failures")
    made = in_threads(8, lambda: store.move(state, after, token()))
    assert [each for each in made if each] == [after]


def test_a_change_whose_answer_was_lost_is_recognised(deployment, store, monkeypatch):
    state = BreakerState(NAME)
    after = opened(state, RULE, deployment.clock.now(), "failures")
    lose_answers(store._client, monkeypatch, 1)
    assert store.move(state, after, "mine") == after
    assert store.move(state, after, "mine") == after
    assert store.move(state, after, "another's") is None


def test_a_change_from_an_epoch_that_is_over_changes_nothing(deployment, store):
    now = deployment.clock.now()
    first = store.move(BreakerState(NAME), opened(BreakerState(NAME), RULE, now, "failures"), token())
    second = store.move(first, half_opened(first, RULE, now, "a"), token())
    assert store.move(first, closed(first, now, "late"), token()) is None
    assert store.get(NAME) == second


def fail(breaker, times, result=CallResult.FAILED):
    for _ in range(times):
        breaker.report(CallReport(breaker.may_call(), result))


def test_workers_that_fail_open_it_together_within_five_seconds(deployment):
    changes = []
    workers = [worker(deployment, on_change=changes.append) for _ in range(5)]
    for each in workers:
        fail(each, 2)
    said = []
    for _ in range(5):
        deployment.clock.advance(seconds=1)
        said = [each.may_call() for each in workers]
    assert all(isinstance(each, OpenBreaker) for each in said)
    assert [change.state for change in changes] == [OPEN]
    assert changes[0] == deployment.store.breakers.get(NAME)


def test_while_all_is_well_nothing_is_written_and_little_is_read(deployment, store):
    breaker = worker(deployment)
    reads, writes = calls_of(store, "get_item"), calls_of(store, "update_item")
    for _ in range(10):
        for _ in range(20):
            breaker.report(CallReport(breaker.may_call(), CallResult.OK))
        deployment.clock.advance(seconds=1)
    assert not writes
    assert len(reads) == 10
    assert not any(read["ConsistentRead"] for read in reads)


def test_while_calls_fail_a_worker_writes_once_a_second_at_most(deployment, store):
    breaker = worker(deployment, BreakerRule(share=1.0))
    fail(breaker, 1, CallResult.OK)
    writes = calls_of(store, "update_item")
    for _ in range(10):
        fail(breaker, 20)
        deployment.clock.advance(seconds=0.5)
    assert 5 <= len(writes) <= 7  # the first makes the item


def test_who_has_not_failed_reports_once_it_hears_that_others_have(deployment, store):
    well, ill = worker(deployment), worker(deployment)
    fail(well, 30, CallResult.OK)
    fail(ill, 12)
    for _ in range(5):
        deployment.clock.advance(seconds=1)
        assert isinstance(well.may_call(), Permit)
        assert isinstance(ill.may_call(), Permit)
    total = sum(recent(store.get(NAME), RULE, deployment.clock.now()).values(), Count())
    assert total == Count(42, 12)


def opened_by(breaker, clock):
    """Let calls fail until the breaker is open."""
    while isinstance(breaker.may_call(), Permit):
        fail(breaker, 10)
        clock.advance(seconds=1)


def test_one_of_many_threads_and_workers_probes_and_its_success_closes(deployment):
    workers = [worker(deployment) for _ in range(4)]
    opened_by(workers[0], deployment.clock)
    deployment.clock.advance(seconds=16)
    turns = iter(workers * 2)
    said = in_threads(8, lambda: next(turns).may_call())
    (probe,) = [each for each in said if isinstance(each, Probe)]
    assert all(isinstance(each, OpenBreaker) for each in said if each is not probe)
    (holder,) = [each for each in workers if each.state.epoch == probe.epoch and each.state.state is HALF_OPEN][:1]
    holder.report(CallReport(probe, CallResult.OK))
    deployment.clock.advance(seconds=1)
    assert all(isinstance(each.may_call(), Permit) for each in workers)
    assert deployment.store.breakers.get(NAME).state is CLOSED


def test_a_person_opens_and_only_a_person_closes(deployment, store):
    operator, breaker = worker(deployment), worker(deployment)
    assert isinstance(breaker.may_call(), Permit)
    state = operator.open("maintenance", by="ann", why="their status page")
    assert (state.by, state.why, state.next_probe_at) == ("ann", "their status page", None)
    assert operator.open("maintenance", by="bob", why="too") is None
    assert operator.open("credentials") is None
    for _ in range(3):
        deployment.clock.advance(hours=1)
        assert isinstance(breaker.may_call(), OpenBreaker)
    assert "by ann: their status page" in breaker.may_call().reason
    assert operator.close(by="bob", why="over").by == "bob"
    assert operator.close(by="bob", why="over") is None
    deployment.clock.advance(seconds=1)
    assert isinstance(breaker.may_call(), Permit)


def throttled(**_):
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "UpdateItem")


def test_a_table_that_is_down_stops_the_probe_at_once_and_the_calls_in_ten_seconds(deployment, store, monkeypatch):
    breaker = worker(deployment)
    assert isinstance(breaker.may_call(), Permit)
    monkeypatch.setattr(store._client, "get_item", throttled)
    deployment.clock.advance(seconds=10)
    assert isinstance(breaker.may_call(), Permit)
    deployment.clock.advance(seconds=1)
    assert "cannot be read" in breaker.may_call().reason
    assert "cannot be read" in worker(deployment).may_call().reason


def test_a_probe_that_cannot_be_written_is_none(deployment, store, monkeypatch):
    breaker = worker(deployment)
    opened_by(breaker, deployment.clock)
    deployment.clock.advance(seconds=16)
    monkeypatch.setattr(store._client, "update_item", throttled)
    assert isinstance(breaker.may_call(), OpenBreaker)
    monkeypatch.undo()
    deployment.clock.advance(seconds=1)
    assert isinstance(breaker.may_call(), Probe)


def test_what_a_probe_found_is_written_once_the_table_is_back(deployment, store, monkeypatch):
    changes = []
    breaker = worker(deployment, on_change=changes.append)
    opened_by(breaker, deployment.clock)
    deployment.clock.advance(seconds=16)
    probe = breaker.may_call()
    with monkeypatch.context() as patch:
        patch.setattr(store._client, "update_item", throttled)
        breaker.report(CallReport(probe, CallResult.OK))
    assert store.get(NAME).state is HALF_OPEN
    deployment.clock.advance(seconds=1)
    assert isinstance(breaker.may_call(), Permit)
    assert [change.state for change in changes] == [OPEN, HALF_OPEN, CLOSED]
    assert store.get(NAME) == replace(changes[-1])


def test_an_error_of_ours_is_no_outage(deployment, store, monkeypatch):
    def broken(**_):
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetItem")

    monkeypatch.setattr(store._client, "get_item", broken)
    with pytest.raises(ClientError):
        worker(deployment).may_call()
