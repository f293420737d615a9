"""Budgets over DynamoDB: caps hold whoever draws, a write counts once, and what the dead held is settled."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from botocore.exceptions import ClientError

from backhaul.model.errors import InvalidRequest, Superseded
from backhaul.model.job import JobRef
from backhaul.model.money import DOLLAR
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.rule import (
    ALLOWANCE_SECONDS,
    TAKEN_OVER,
    Caps,
    Exhausted,
    HeldByOthers,
    Hold,
    Holder,
    OutOfReach,
    takeover_posting,
)
from backhaul.store.budgets import BudgetKey, BudgetState, Entry, Limit, Posting, ProviderUsage, digest_of
from tests.stages.test_breaker_store import calls_of, lose_answers
from tests.stages.test_dispatch import in_threads


def flush(budget):
    """Have it write what is due now."""
    with budget._writing:
        budget._flush()


JOB = JobRef("T1", "01kb3x5s0qf8m2v9d7c6t4h1zn")
DAY = date(2026, 11, 22)
KEY = BudgetKey.of_job(JOB)
CENT = DOLLAR // 100
MODEL = "openai/gpt-5.2 #eu"


@pytest.fixture
def store(deployment):
    return deployment.store.budgets


def of(deployment, shard=0, attempt=1, *, expires_at=None, **caps):
    """The budget of an attempt at a shard; the caps are by scope."""
    holder = Holder(JOB, shard, attempt)
    return Budget(holder, Caps(**caps), deployment.store.budgets, deployment.clock, expires_at=expires_at)


def keys_of(job=JOB, day=DAY):
    return [BudgetKey.of_job(job), BudgetKey.of_tenant(job.tenant, day), BudgetKey.of_stack(day)]


def amounts(store, *keys):
    return [(state.spent, state.held) for state in map(store.get, keys or keys_of())]


def draw(entry, amount, *, before=None, cap=None, most=None):
    return Posting(KEY, "0", before, entry, amount, amount, limit=Limit(cap, most))


def pay(worker, estimate=CENT, cost=CENT, **usage):
    made = worker.hold(estimate)
    assert isinstance(made, Hold)
    worker.settle(made, MODEL, ProviderUsage(1, nanodollars=cost, **usage))


@pytest.mark.parametrize(
    ("key", "pk"),
    [
        (KEY, f"BUDGET#J#T1#{JOB.job_id}"),
        (BudgetKey.of_tenant("T1", DAY), "BUDGET#T#T1#2026-11-22"),
        (BudgetKey.of_stack(DAY), "BUDGET#S#2026-11-22"),
    ],
)
def test_keys(key, pk):
    assert key.to_item() == {"pk": {"S": pk}, "sk": {"S": "BUDGET"}}


def test_a_posting_is_stored_whole(store):
    entry, usage = Entry(1, 1, 5, 3, 4, 7), {MODEL: ProviderUsage(1, 2, 3, 4, 5), "b": ProviderUsage(calls=1)}
    posted = store.post(Posting(KEY, "0", None, entry, 5, 8, usage))
    assert posted.done
    assert posted.state == store.get(KEY) == BudgetState(None, 3, 5, usage=usage, entries={"0": entry})
    last = store.post(Posting(KEY, "0", entry, None, -5, -5, usage))
    assert last.state == BudgetState(None, 3, 0, usage={name: each + each for name, each in usage.items()})


def test_an_entry_is_read_as_it_was_written():
    entry = Entry(3, 255, 10**9, 10**15, 0, DAY.toordinal())
    assert Entry.from_text(entry.to_text()) == entry
    assert len(Entry(2, 200, 5 * 10**8, 3 * 10**9, 6 * 10**9).to_text()) < 40


def test_a_posting_that_is_sent_twice_counts_once(store):
    first = Entry(1, 1, 5)
    for _ in range(2):
        assert store.post(draw(first, 5)).done
    second = Entry(1, 2, 9)
    for _ in range(2):
        assert store.post(draw(second, 4, before=first)).done
    for _ in range(2):
        assert store.post(Posting(KEY, "0", second, None, -9, -9)).done
    assert amounts(store, KEY) == [(0, 0)]
    assert not store.post(draw(second, 4, before=first)).done
    assert amounts(store, KEY) == [(0, 0)]


def test_the_client_itself_repeats_a_posting_whose_answer_was_lost(store, monkeypatch):
    lose_answers(store._client, monkeypatch, 1)
    assert store.post(draw(Entry(1, 1, 5), 5, most=0)).done
    assert amounts(store, KEY) == [(0, 5)]


def test_a_limit_is_of_the_cap_and_of_what_is_used(store):
    assert not store.post(draw(Entry(1, 1, 5), 5, most=-1)).done
    assert not store.post(draw(Entry(1, 1, 5), 5, cap=10, most=5)).done
    assert store.get(KEY) == BudgetState()
    store.raise_cap(KEY, 10, by="ann", why="a trial")
    assert not store.post(draw(Entry(1, 1, 5), 5)).done
    assert not store.post(draw(Entry(1, 1, 5), 5, cap=11, most=6)).done
    assert store.post(draw(Entry(1, 1, 5), 5, cap=10, most=5)).done
    refused = store.post(draw(Entry(1, 2, 11), 6, before=Entry(1, 1, 5), cap=10, most=4))
    assert (refused.done, refused.state.used, refused.state.cap) == (False, 5, 10)
    assert store.post(Posting(KEY, "0", Entry(1, 1, 5), Entry(1, 2, 5), used=100)).done


def test_a_cap_says_who_set_it_and_why(store):
    state = store.raise_cap(KEY, 5, by="ann", why="a trial")
    assert (state.cap, state.cap_by, state.cap_why) == (5, "ann", "a trial")
    assert store.raise_cap(KEY, None, by="bob", why="no limit").cap is None
    with pytest.raises(InvalidRequest):
        store.raise_cap(KEY, -1, by="bob", why="a slip")


def test_items_go_in_the_end(deployment, store):
    worker = of(deployment, expires_at=1234)
    pay(worker)
    worker.settle_all()
    table = {item["pk"]["S"]: int(item["expires_at"]["N"]) for item in store._client.scan(TableName="flow")["Items"]}
    midnight = 1795305600
    assert table[f"BUDGET#J#T1#{JOB.job_id}"] == 1234
    assert table["BUDGET#S#2026-11-22"] == midnight + 400 * 86400 == table["BUDGET#T#T1#2026-11-22"]


def test_a_call_is_held_in_all_three_and_settled_in_all_three(deployment, store):
    worker = of(deployment)
    made = worker.hold(CENT)
    assert amounts(store) == [(0, 8 * CENT)] * 3
    worker.settle(made, MODEL, ProviderUsage(1, 100, 20, CENT // 2))
    worker.settle(made, MODEL, ProviderUsage(1, 100, 20, CENT // 2))
    worker.give_back(made)
    worker.count(MODEL, ProviderUsage(saved=CENT))
    worker.settle_all()
    assert amounts(store) == [(CENT // 2, 0)] * 3
    for key in keys_of():
        state = store.get(key)
        assert state.usage == {MODEL: ProviderUsage(1, 100, 20, CENT // 2, CENT)}
        assert not state.entries


def test_what_is_counted_only_is_counted_once_and_leaves_no_entry(deployment, store):
    worker = of(deployment)
    worker.count(MODEL, ProviderUsage(saved=5))
    worker.settle_all()
    assert store.get(KEY) == BudgetState(usage={MODEL: ProviderUsage(saved=5)})


def test_writes_for_each_call_are_few(deployment, store):
    worker = of(deployment, stack=100 * DOLLAR)
    writes = calls_of(store, "update_item")
    for _ in range(300):
        pay(worker)
        deployment.clock.advance(seconds=0.25)
    worker.settle_all()
    assert amounts(store) == [(300 * CENT, 0)] * 3
    assert len(writes) / 300 < 0.12


def test_the_cap_of_a_job_is_spent_and_not_a_nanodollar_more(deployment, store):
    worker = of(deployment, job=10 * CENT + 5)
    for _ in range(10):
        pay(worker)
    assert worker.hold(CENT) == Exhausted("job", 10 * CENT + 5, 10 * CENT, CENT)
    assert worker.hold(CENT).describe() == "the job's budget of $0.10 has $0.000000005 left, and a call may cost $0.010"
    assert isinstance(worker.hold(5), Hold)
    worker.settle_all()
    assert amounts(store, KEY) == [(10 * CENT + 5, 0)]


def test_what_others_hold_is_not_spent(deployment, store):
    one, two = of(deployment, 0, tenant=2 * CENT), of(deployment, 1, tenant=2 * CENT)
    first, second = one.hold(CENT), one.hold(CENT)
    said = two.hold(CENT)
    assert isinstance(said, HeldByOthers)
    assert (said.scope, said.cap, said.spent, said.held, said.asked) == ("tenant", 2 * CENT, 0, 2 * CENT, CENT)
    assert 2 <= said.seconds <= 4
    one.settle(first, MODEL, ProviderUsage(1, nanodollars=1))
    one.give_back(second)
    flush(one)
    assert isinstance(two.hold(CENT), Hold)


@pytest.mark.parametrize(("caps", "scope"), [({"tenant": CENT - 1}, "tenant"), ({"stack": CENT - 1}, "stack")])
def test_what_the_first_gave_goes_back_if_another_refuses(deployment, store, caps, scope):
    worker = of(deployment, **caps)
    said = worker.hold(CENT)
    assert (said.scope, said.spent, said.asked) == (scope, 0, CENT)
    assert isinstance(said, Exhausted)
    assert amounts(store) == [(0, 0)] * 3


def test_near_the_cap_allowances_are_small(deployment, store):
    workers = [of(deployment, shard, job=20 * CENT) for shard in range(10)]
    assert all(isinstance(worker.hold(CENT), Hold) for worker in workers for _ in range(2))


def test_many_threads_of_many_workers_never_pass_the_cap(deployment, store):
    workers = [of(deployment, shard, job=40 * CENT) for shard in range(4)]
    turns = iter(workers * 2)

    def work():
        worker, paid = next(turns), 0
        for _ in range(30):
            made = worker.hold(CENT)
            if isinstance(made, Hold):
                worker.settle(made, MODEL, ProviderUsage(1, nanodollars=CENT))
                paid += 1
        return paid

    paid = sum(in_threads(8, work))
    for worker in workers:
        worker.settle_all()
    assert amounts(store, KEY) == [(paid * CENT, 0)]
    assert 30 <= paid <= 40
    assert store.get(KEY).usage == {MODEL: ProviderUsage(paid, nanodollars=paid * CENT)}


def test_a_call_that_costs_more_than_its_estimate_is_counted_whole(deployment, store):
    worker = of(deployment, 0, job=CENT)
    pay(worker, cost=3 * CENT)
    flush(worker)
    assert amounts(store, KEY) == [(3 * CENT, 0)]
    assert isinstance(worker.hold(1), Exhausted)


def test_a_raised_cap_lets_a_job_go_on_and_a_lowered_one_pauses_it(deployment, store):
    worker = of(deployment, 0, job=CENT)
    pay(worker)
    assert isinstance(worker.hold(CENT), Exhausted)
    store.raise_cap(KEY, 2 * CENT, by="ann", why="it is worth it")
    pay(worker)
    store.raise_cap(KEY, 0, by="ann", why="it is not")
    assert worker.hold(CENT) == Exhausted("job", 0, 2 * CENT, CENT)


def test_an_allowance_does_not_outlive_a_lowered_cap(deployment, store):
    worker = of(deployment, 0, job=DOLLAR)
    pay(worker)
    store.raise_cap(KEY, 0, by="ann", why="stop")
    deployment.clock.advance(seconds=ALLOWANCE_SECONDS + 1)
    assert isinstance(worker.hold(CENT), Exhausted)
    assert amounts(store, KEY) == [(CENT, 0)]


def test_what_was_drawn_before_midnight_is_settled_against_that_day(deployment, store):
    deployment.clock.time = deployment.clock.time.replace(hour=23, minute=59, second=58)
    worker, tomorrow = of(deployment, stack=DOLLAR), DAY + timedelta(days=1)
    late = worker.hold(CENT)
    deployment.clock.advance(seconds=4)
    pay(worker, cost=2)
    worker.settle(late, MODEL, ProviderUsage(1, nanodollars=1))
    worker.settle_all()
    assert amounts(store) == [(3, 0), (1, 0), (1, 0)]
    assert amounts(store, *keys_of(day=tomorrow)) == [(3, 0), (2, 0), (2, 0)]
    assert not store.get(BudgetKey.of_stack(DAY)).entries


def test_what_the_dead_held_is_settled_by_who_follows(deployment, store):
    dead = of(deployment)
    stored = dead.hold(CENT)
    dead.settle(stored, MODEL, ProviderUsage(1, nanodollars=CENT // 4))
    flush(dead)
    pay(dead, cost=CENT // 4)
    dead.hold(CENT)
    after = of(deployment, attempt=2)
    for _ in range(2):
        after.take_over(Holder(JOB, 0, 1), spent=CENT // 2, estimated=2 * CENT)
    assert amounts(store) == [(CENT // 2 + 14 * CENT, 0)] * 3
    assert store.get(KEY).usage[TAKEN_OVER] == ProviderUsage(nanodollars=CENT // 4 + 14 * CENT)
    assert not store.get(BudgetKey.of_stack(DAY)).entries
    with pytest.raises(Superseded):
        flush(dead)
    with pytest.raises(Superseded):
        dead.hold(CENT)
    assert amounts(store) == [(CENT // 2 + 14 * CENT, 0)] * 3


def test_the_dead_of_yesterday_is_settled_there(deployment, store):
    deployment.clock.time = deployment.clock.time.replace(hour=23, minute=59, second=58)
    dead, tomorrow = of(deployment), DAY + timedelta(days=1)
    dead.hold(CENT)
    deployment.clock.advance(seconds=4)
    dead.hold(CENT)
    deployment.clock.advance(hours=30)
    of(deployment, attempt=2).take_over(Holder(JOB, 0, 1))
    assert amounts(store) == [(9 * CENT, 0), (CENT, 0), (CENT, 0)]
    assert amounts(store, *keys_of(day=tomorrow))[1:] == [(8 * CENT, 0)] * 2


def test_a_predecessor_that_nobody_spoke_of_is_settled_at_its_estimates(deployment, store):
    of(deployment).hold(CENT)
    after = of(deployment, attempt=3)
    assert isinstance(after.hold(CENT), Hold)
    assert amounts(store) == [(8 * CENT, 8 * CENT)] * 3
    with pytest.raises(Superseded):
        of(deployment, attempt=2).hold(CENT)


def test_a_take_over_that_dies_midway_is_finished_by_the_next(deployment, store, monkeypatch):
    of(deployment).hold(CENT)
    with monkeypatch.context() as patch:
        real, left = store.post, iter(range(2))
        patch.setattr(store, "post", lambda posting: real(posting) if next(left, None) is not None else throttled())
        with pytest.raises(ClientError):
            of(deployment, attempt=2).take_over(Holder(JOB, 0, 1))
    of(deployment, attempt=3).take_over(Holder(JOB, 0, 2), spent=CENT, estimated=8 * CENT)
    assert amounts(store) == [(8 * CENT, 0)] * 3


def throttled(**_):
    raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "UpdateItem")


def test_a_table_that_throttles_lets_nothing_through(deployment, store, monkeypatch):
    worker = of(deployment)
    with monkeypatch.context() as patch:
        patch.setattr(store._client, "update_item", throttled)
        said = worker.hold(CENT)
        assert isinstance(said, OutOfReach)
        assert said.seconds >= 4
        tries = calls_of(store, "update_item")
        assert isinstance(worker.hold(CENT), OutOfReach)
        assert not tries
    assert store.get(KEY) == BudgetState()
    deployment.clock.advance(seconds=2)
    assert isinstance(worker.hold(CENT), Hold)
    worker.settle_all()
    assert amounts(store) == [(CENT, 0)] * 3


def test_a_write_whose_answer_never_came_is_recognised_later(deployment, store, monkeypatch):
    worker = of(deployment)
    lose_answers(store._client, monkeypatch, 3)  # as often as the client tries
    assert isinstance(worker.hold(CENT), OutOfReach)
    assert amounts(store, KEY) == [(0, 8 * CENT)]
    deployment.clock.advance(seconds=2)
    made = worker.hold(CENT)
    assert amounts(store) == [(0, 8 * CENT)] * 3
    worker.settle(made, MODEL, ProviderUsage(1, nanodollars=1))
    worker.settle_all()
    assert amounts(store) == [(1, 0)] * 3


def test_settling_raises_nothing_while_the_table_is_down(deployment, store, monkeypatch):
    worker = of(deployment)
    made = [worker.hold(CENT) for _ in range(3)]
    deployment.clock.advance(seconds=ALLOWANCE_SECONDS + 1)
    with monkeypatch.context() as patch:
        patch.setattr(store._client, "update_item", throttled)
        worker.settle(made[0], MODEL, ProviderUsage(1, nanodollars=1))
        with pytest.raises(ClientError):
            worker.settle_all()
    worker.settle_all()
    assert amounts(store) == [(1 + 2 * CENT, 0)] * 3


def test_an_estimate_that_is_no_amount_is_refused(deployment):
    with pytest.raises(InvalidRequest):
        of(deployment).hold(-1)


def test_of_a_dead_holder_what_is_known_is_settled_and_the_rest_at_its_estimate():
    entry = Entry(1, 4, held=100, cost=30, estimated=50)
    assert takeover_posting(KEY, "0", entry).used == 0
    assert takeover_posting(KEY, "0", entry, 50).used == 0
    assert takeover_posting(KEY, "0", entry, 150).used == 20
    assert takeover_posting(KEY, "0", entry, 50, 110).used == 20 + 40 - 100
    assert takeover_posting(KEY, "0", entry, 10, 10) == replace(takeover_posting(KEY, "0", entry), limit=None)
    assert digest_of(JOB, 1) != digest_of(JOB, 2)


def test_who_comes_to_caps_that_were_all_raised_learns_each_of_them_and_draws(deployment, store):
    for key in keys_of():
        store.raise_cap(key, DOLLAR, by="me", why="more")
    worker = of(deployment)
    pay(worker)
    worker.settle_all()
    assert amounts(store) == [(CENT, 0)] * 3
