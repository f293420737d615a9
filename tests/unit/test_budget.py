"""What is spent and held, whoever draws, dies or loses answers: never past the cap, never less than was paid."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backhaul.model.errors import InvalidRequest, Superseded
from backhaul.model.job import JobRef
from backhaul.model.money import MOST
from backhaul.paid.budget.budget import Budget
from backhaul.paid.budget.rule import (
    MAX_CALLS,
    MIN_CALLS,
    SHARE,
    TAKEN_OVER,
    Account,
    Batch,
    Caps,
    Exhausted,
    HeldByOthers,
    Hold,
    Holder,
    calls_wanted,
    room_for,
    takeover_posting,
)
from backhaul.store.budgets import BudgetKey, BudgetScope, BudgetState, Entry, Posted, ProviderUsage


def flush(budget):
    """Have it write what is due now."""
    with budget._writing:
        budget._flush()


JOB = JobRef("T1", "01kb3x5s0qf8m2v9d7c6t4h1zn")
KEY = BudgetKey.of_job(JOB)
EVENING = datetime(2026, 11, 22, 23, 59, 30, tzinfo=UTC)
MODEL = "openai"


@dataclass
class Clock:
    """A clock that only the test moves."""

    seconds: float = 0.0

    def now(self):
        return EVENING + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds


@dataclass
class MemoryStore:
    """What the flow table does to budgets, with requests that are refused and answers that are lost."""

    items: dict = field(default_factory=lambda: defaultdict(BudgetState))
    faults: list = field(default_factory=list)
    writes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key, *, consistent=True):
        return self.items[key]

    def post(self, posting):
        self.writes += 1
        self._fail("refused")
        with self.lock:
            posted = self._apply(posting)
        self._fail("lost")
        return posted

    def _apply(self, posting):
        state = self.items[posting.key]
        entry, limit = state.entries.get(posting.name), posting.limit
        allowed = not limit or (state.cap == limit.cap and (limit.used is None or state.used <= limit.used))
        if entry != posting.before or not allowed:
            return Posted(entry != posting.before and entry == posting.after, state)
        entries = {name: each for name, each in state.entries.items() if name != posting.name}
        if posting.after:
            entries[posting.name] = posting.after
        usage = (Batch(usage=state.usage) + Batch(usage=posting.usage)).usage
        spent, held = state.spent + posting.used - posting.held, state.held + posting.held
        self.items[posting.key] = replace(state, spent=spent, held=held, entries=entries, usage=usage)
        return Posted(True, self.items[posting.key])

    def _fail(self, how):
        if self.faults and self.faults[0] == how:
            self.faults.pop(0)
            raise ConnectionError(how)


def account(cap=None, spent=0, held=0, own=None, entry=None):
    return Account(KEY, "0", 1, cap, entry=entry, known=BudgetState(own, spent, held))


@pytest.mark.parametrize(
    ("given_account", "batch", "estimate", "room"),
    [
        (account(cap=100), Batch(), 10, 10),
        (account(cap=100, own=50), Batch(), 10, 5),
        (account(cap=100, spent=50, held=45), Batch(), 5, 1),
        (account(cap=100, spent=50, held=45), Batch(), 6, HeldByOthers(BudgetScope.JOB, 0.0, 100, 50, 45, 6)),
        (account(cap=100, spent=50, held=45), Batch(cost=2, estimated=20), 6, 3),
        (account(cap=100, spent=50, held=45), Batch(surplus=45), 50, 1),
        (account(cap=100, spent=95, held=5), Batch(), 6, Exhausted(BudgetScope.JOB, 100, 95, 6)),
        (account(cap=100, spent=95, held=5), Batch(), 5, HeldByOthers(BudgetScope.JOB, 0.0, 100, 95, 5, 5)),
        (account(cap=100, spent=120), Batch(), 1, Exhausted(BudgetScope.JOB, 100, 120, 1)),
        (account(), Batch(), 10**12, MAX_CALLS * SHARE),
    ],
)
def test_what_is_held_is_told_from_what_is_spent(given_account, batch, estimate, room):
    assert room_for(given_account, batch, estimate) == room


@pytest.mark.parametrize(
    ("rate", "rooms", "calls"),
    [
        (0, [10**6], MIN_CALLS),
        (2.05, [10**6], 31),
        (1000, [10**6], MAX_CALLS),
        (1000, [10**6, 5 * SHARE], 5),
        (0, [3], 1),
        (0, [Exhausted(BudgetScope.JOB, 1, 1, 1)], MIN_CALLS),
    ],
)
def test_an_allowance_is_for_some_seconds_and_for_a_part_of_what_is_left(rate, rooms, calls):
    assert calls_wanted(rate, rooms) == calls


def test_an_exhausted_budget_says_what_is_left():
    said = Exhausted(BudgetScope.TENANT, 10**9, 10**9 - 3_100_000, 12_000_000).describe()
    assert said == "the tenant's budget of $1.00 has $0.0031 left, and a call may cost $0.012"


@given(*[st.integers(0, 1000)] * 5)
def test_the_dead_are_never_settled_for_less_than_they_may_have_paid(held, cost, estimated, more, of_more):
    entry = Entry(1, 1, held, cost, estimated)
    of_more = min(of_more, held)
    posting = takeover_posting(KEY, "0", entry, cost + more, estimated + of_more)
    assert posting.used - posting.held == more + held - of_more
    without = takeover_posting(KEY, "0", entry, cost + more)
    assert without.used - without.held == max(more, held)
    assert posting.held == -held


def budget(store, clock, shard=0, attempt=1, **caps):
    return Budget(Holder(JOB, shard, attempt), Caps(**caps), store, clock)


def test_eight_threads_share_an_allowance(monkeypatch):
    store = MemoryStore()
    worker, barrier = budget(store, Clock(), job=10**6), threading.Barrier(8)

    def work(_):
        barrier.wait()
        paid = 0
        for number in range(100):
            made = worker.hold(10)
            assert isinstance(made, Hold)
            if number % 10:
                worker.settle(made, MODEL, ProviderUsage(1, 5, 2, 7))
                paid += 1
            else:
                worker.give_back(made)
        return paid

    with ThreadPoolExecutor(8) as pool:
        paid = sum(pool.map(work, range(8)))
    worker.settle_all()
    state = store.items[KEY]
    assert (state.spent, state.held, state.entries) == (7 * paid, 0, {})
    assert state.usage == {MODEL: ProviderUsage(paid, 5 * paid, 2 * paid, 7 * paid)}
    assert store.writes < 0.2 * 800


@pytest.mark.parametrize(("rate", "most"), [(0.5, 0.4), (2, 0.11), (10, 0.06)])
def test_writes_for_each_call_are_few(rate, most):
    store, clock = MemoryStore(), Clock()
    worker = budget(store, clock, job=10**9)
    for _ in range(1000):
        worker.settle(worker.hold(10), MODEL, ProviderUsage(1, nanodollars=8))
        clock.seconds += 1 / rate
    assert store.writes / 1000 <= most


def test_a_call_that_costs_nothing_needs_no_money():
    worker = budget(MemoryStore(), Clock(), job=1)
    assert isinstance(worker.hold(0), Hold)


def test_a_cost_that_is_no_amount_is_refused():
    worker = budget(MemoryStore(), Clock())
    made = worker.hold(1)
    for cost in (-1, MOST + 1):
        with pytest.raises(InvalidRequest):
            worker.settle(made, MODEL, ProviderUsage(1, nanodollars=cost))
    worker.settle(made, MODEL, ProviderUsage(1, nanodollars=1))


@dataclass
class Worker:
    """An attempt at a shard, the calls that it has under way, and what it has stored."""

    budget: Budget
    holder: Holder
    calls: list = field(default_factory=list)
    stored: int = 0
    estimated: int = 0


class Simulation:
    """Four shards of one job; whoever dies is followed, and may come back as a zombie."""

    CAPS = Caps(job=150, tenant=120, stack=135)

    def __init__(self):
        self.store, self.clock = MemoryStore(), Clock()
        self.workers = [self.worker(Holder(JOB, shard, 1)) for shard in range(4)]
        self.dead = []
        self.paid = defaultdict(int)
        self.overshoot = 0

    def worker(self, holder):
        return Worker(Budget(holder, self.CAPS, self.store, self.clock), holder)

    def keys(self, day):
        return [KEY, BudgetKey.of_tenant("T1", day), BudgetKey.of_stack(day)]

    def do(self, action, which, amount):
        worker = self.workers[which]
        if action == "zombie" and self.dead:
            self.act(("settle", "hold", "flush")[amount % 3], self.dead[which % len(self.dead)], amount)
        elif action == "die":
            self.follow(which)
        elif action == "pass":
            self.clock.seconds += amount / 3
        elif action == "fault":
            self.store.faults.append("lost" if which % 2 else "refused")
        elif action == "raise":
            self.store.items[KEY] = replace(self.store.items[KEY], cap=self.cap_of(KEY) + amount)
        else:
            self.act(action, worker, amount)
        self.check()

    def act(self, action, worker, amount):
        with suppress(Superseded, ConnectionError):
            if action == "hold":
                made = worker.budget.hold(amount)
                if isinstance(made, Hold):
                    worker.calls.append(made)
            elif action == "flush":
                flush(worker.budget)
            elif worker.calls:
                self.settle(worker, worker.calls.pop(), amount)

    def settle(self, worker, call, amount):
        cost = amount if worker in self.workers else min(amount, call.estimate)
        self.pay(call.day, cost)
        self.overshoot += max(0, cost - call.estimate)
        worker.stored += cost
        worker.estimated += call.estimate
        worker.budget.settle(call, MODEL, ProviderUsage(1, nanodollars=cost))

    def pay(self, day, cost):
        for key in self.keys(day):
            self.paid[key] += cost

    def follow(self, which):
        """Let a worker die, and another take over what it held, as often as it takes."""
        old = self.workers[which]
        new = self.workers[which] = self.worker(replace(old.holder, attempt=old.holder.attempt + 1))
        self.dead.append(old)
        while True:
            with suppress(ConnectionError):
                new.budget.take_over(old.holder, spent=old.stored, estimated=old.estimated)
                return

    def cap_of(self, key):
        own = self.store.items[key].cap
        return getattr(self.CAPS, key.scope) if own is None else own

    def check(self):
        for key, state in list(self.store.items.items()):
            assert state.used <= self.cap_of(key) + self.overshoot
            assert state.held == sum(entry.held for entry in state.entries.values())
            assert all(entry.held >= 0 for entry in state.entries.values())

    def end(self):
        self.store.faults.clear()
        had_dead = bool(self.dead)
        for worker in self.dead:
            for call in worker.calls:
                self.pay(call.day, call.estimate)
        for worker in self.workers:
            for call in worker.calls:
                self.settle(worker, call, call.estimate)
            with suppress(Superseded):
                worker.budget.settle_all()
        for which in range(len(self.workers)):
            self.follow(which)  # a zombie may have come after its successor left: whoever ends the job looks again
        self.check()
        for key, state in self.store.items.items():
            assert state.held == 0, key
            assert not state.entries
            # Of calls that were stored before midnight and settled by a successor, only the sum of both days is known.
            assert state.spent + (self.overshoot if key.day else 0) >= self.paid[key]
            assert sum(usage.nanodollars for usage in state.usage.values()) == state.spent
            if not had_dead:
                assert state.spent == self.paid[key]
            taken_over = state.usage.get(TAKEN_OVER, ProviderUsage()).nanodollars
            assert state.spent - taken_over <= self.paid[key]
        for scope in BudgetScope:
            assert self.sum_of(scope, self.spent()) >= self.sum_of(scope, self.paid)

    def spent(self):
        return {key: state.spent for key, state in self.store.items.items()}

    def sum_of(self, scope, amounts):
        return sum(amount for key, amount in amounts.items() if key.scope is scope)


ACTIONS = st.tuples(
    st.sampled_from(["hold"] * 4 + ["settle"] * 3 + ["flush", "pass", "pass", "raise", "die", "zombie", "fault"]),
    st.integers(0, 3),
    st.integers(0, 60),
)


OVER_MIDNIGHT = [
    *[("hold", 0, 0)] * 4,
    ("hold", 0, 8),
    ("pass", 0, 30),
    ("pass", 0, 60),
    ("hold", 0, 0),
    ("settle", 0, 8),
    ("die", 0, 0),
]
"""A call that costs more than its estimate is stored after midnight, one of the day before is under way: then death."""


@settings(max_examples=150, deadline=None)
@example(OVER_MIDNIGHT)
@given(st.lists(ACTIONS, min_size=10, max_size=80))
def test_whatever_happens_no_cap_is_passed_and_nothing_paid_is_forgotten(actions):
    simulation = Simulation()
    for action in actions:
        simulation.do(*action)
    simulation.end()


@settings(max_examples=80, deadline=None)
@given(st.lists(ACTIONS.filter(lambda action: action[0] not in ("die", "zombie")), min_size=10, max_size=80))
def test_whatever_answers_are_lost_what_is_settled_is_what_was_reported(actions):
    simulation = Simulation()
    for action in actions:
        simulation.do(*action)
    simulation.end()
    assert simulation.store.items[KEY].spent == simulation.paid[KEY]
    assert TAKEN_OVER not in simulation.store.items[KEY].usage


def test_the_simulation_crosses_midnight():
    simulation = Simulation()
    simulation.do("hold", 0, 10)
    for _ in range(2):
        simulation.do("pass", 0, 60)
    simulation.do("hold", 0, 10)
    days = {key.day for key in simulation.store.items if key.day}
    assert days == {date(2026, 11, 22), date(2026, 11, 23)}
    simulation.end()


@pytest.mark.parametrize("write", range(8))
def test_who_dies_while_it_leaves_keeps_no_successor_from_the_days_books(write):
    """An attempt that only counted what a cache saved makes its entries and takes them away at the very end."""
    store, clock = MemoryStore(), Clock()
    first = Budget(Holder(JOB, 0, 1), Caps(job=MOST, tenant=MOST, stack=MOST), store, clock)
    first.count(MODEL, ProviderUsage(saved=10))
    store.faults = ["none"] * write + ["refused"] * 10
    store._fail = _failing(store)
    with suppress(ConnectionError):
        first.settle_all()
    store._fail = lambda _how: None
    second = Budget(Holder(JOB, 0, 2), Caps(job=MOST, tenant=MOST, stack=MOST), store, clock)
    second.count(MODEL, ProviderUsage(saved=10))
    second.settle_all()
    assert [each.entries for each in store.items.values() if each.entries] == []


def _failing(store):
    def fail(how):
        if how == "refused" and store.faults.pop(0) == "refused":
            raise ConnectionError(how)

    return fail
