"""When a breaker opens, who probes, and what late answers, skewed clocks and dead workers cannot do to it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backhaul.model.breaker import BreakerState, Count, Phase
from backhaul.model.errors import StoreUnavailable
from backhaul.paid.breaker import breaker as breaking
from backhaul.paid.breaker.breaker import KNOWN_SECONDS, Breaker
from backhaul.paid.breaker.rule import (
    CREDENTIALS,
    BreakerRule,
    CallReport,
    CallResult,
    OpenBreaker,
    Permit,
    Probe,
    after_call,
    bucket_of,
    closed,
    half_opened,
    opened,
    reason_to_open,
    seconds_to_probe,
)

RULE = BreakerRule()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CLOSED, OPEN, HALF_OPEN = Phase.CLOSED, Phase.OPEN, Phase.HALF_OPEN
OK, FAILED, DENIED, THROTTLED, NOT_MADE = CallResult


@dataclass
class World:
    """The true time, which nobody knows."""

    seconds: float = 0.0


@dataclass
class SkewedClock:
    """A clock that is so many seconds off; its durations are true."""

    world: World
    off: float = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.world.seconds + self.off)

    def monotonic(self):
        return self.world.seconds

    def sleep(self, seconds):
        self.world.seconds += seconds


@dataclass
class MemoryStore:
    """What the flow table does to breakers, with requests that are refused and answers that are lost."""

    item: BreakerState = field(default_factory=lambda: BreakerState("openai"))
    moved_by: str = ""
    counted_by: str = ""
    faults: list = field(default_factory=list)
    moves: list = field(default_factory=list)
    reads: int = 0
    writes: int = 0
    old: BreakerState | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, provider, *, consistent=False):
        self.reads += 1
        self._fail("refused")
        return self.item if consistent or self.old is None else self.old

    def count(self, state, counts, token, *, stale=()):
        self.writes += 1
        self._fail("refused")
        with self.lock:
            if self.item.epoch == state.epoch and self.counted_by != token:
                merged = {bucket: count for bucket, count in self.item.counts.items() if bucket not in stale}
                for bucket, count in counts.items():
                    merged[bucket] = merged.get(bucket, Count()) + count
                self.item, self.counted_by = replace(self.item, counts=merged), token
        self._fail("lost")
        return self.item

    def move(self, before, after, token):
        self.writes += 1
        self._fail("refused")
        with self.lock:
            done = self.item.epoch == before.epoch
            if done:
                self.moves.append((self.item, after))
                self.old, self.item, self.moved_by = self.item, after, token
        self._fail("lost")
        return after if done or self.moved_by == token else None

    def _fail(self, how):
        if self.faults and self.faults[0] == how:
            self.faults.pop(0)
            raise ConnectionError(how)


@dataclass
class Fleet:
    """Workers that share a breaker."""

    rule: BreakerRule = RULE
    world: World = field(default_factory=World)
    store: MemoryStore = field(default_factory=MemoryStore)
    told: list = field(default_factory=list)

    def worker(self, off=0.0):
        return Breaker("openai", self.rule, self.store, SkewedClock(self.world, off), self.told.append)

    def pass_(self, seconds):
        self.world.seconds += seconds
        self.store.old = None  # a read is never older than that

    def now(self):
        return SkewedClock(self.world).now()


@pytest.fixture
def fleet():
    return Fleet()


def state_with(counts, **changes):
    return replace(BreakerState("openai"), counts=counts, **changes)


def at(seconds):
    return bucket_of(NOW + timedelta(seconds=seconds), RULE)


def call(worker, result):
    permit = worker.may_call()
    assert isinstance(permit, Permit | Probe)
    worker.report(CallReport(permit, result))


def open_it(fleet, worker, result=FAILED):
    while isinstance(worker.may_call(), Permit):
        for _ in range(10):
            call(worker, result)
        fleet.pass_(1)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({-4: Count(10, 5)}, "failures"),
        ({-4: Count(10, 4)}, None),
        ({-4: Count(9, 9)}, None),
        ({-20: Count(6, 3), -4: Count(4, 2)}, "failures"),
        ({-32: Count(6, 6), -4: Count(4, 4)}, None),
        ({0: Count(100, 100)}, None),
        ({-4: Count(5, 1), 0: Count(50, 49)}, "failures"),
        ({5: Count(10, 10)}, None),
        ({60: Count(10, 10), -4: Count(1, 1)}, None),
        ({}, None),
        ({-4: Count(100, 0)}, None),
        ({-4: Count(10, refused=10)}, "refusals"),
        ({-4: Count(100, refused=99)}, None),
        ({-20: Count(1), -4: Count(10, refused=10)}, "refusals"),  # the last ten seconds are enough
        ({-4: Count(9, refused=9)}, None),
        ({0: Count(100, refused=100)}, None),
        ({-4: Count(10, failed=4, refused=6)}, "refusals"),
        ({-4: Count(10, failed=5, refused=5)}, "failures"),
    ],
)
def test_it_opens_at_a_share_of_failures_or_if_no_call_was_answered(counts, reason):
    state = state_with({at(seconds): count for seconds, count in counts.items()})
    assert reason_to_open(state, RULE, NOW) == reason


def test_a_probe_that_fails_doubles_the_cooldown_up_to_half_an_hour():
    state, cooldowns = opened(BreakerState("openai"), RULE, NOW, "failures"), []
    for _ in range(9):
        cooldowns.append(state.cooldown_seconds)
        probing = half_opened(state, RULE, NOW, "me")
        state = after_call(probing, CallReport(Probe(probing.epoch, 60), FAILED), RULE, NOW)
        assert state.next_probe_at == NOW + timedelta(seconds=state.cooldown_seconds)
    assert cooldowns == [15, 30, 60, 120, 240, 480, 960, 1800, 1800]
    assert opened(closed(state, NOW, "good"), RULE, NOW, "failures").cooldown_seconds == 15


@pytest.mark.parametrize(
    ("result", "state", "reason", "seconds"),
    [
        (OK, CLOSED, "a probe went well", 0),
        (THROTTLED, CLOSED, "a probe went well", 0),
        (FAILED, OPEN, "failures", 30),
        (DENIED, OPEN, CREDENTIALS, 60),
        (NOT_MADE, OPEN, "failures", 15),
    ],
)
def test_a_probe_decides(result, state, reason, seconds):
    probing = half_opened(opened(BreakerState("openai"), RULE, NOW, "failures"), RULE, NOW, "me")
    after = after_call(probing, CallReport(Probe(probing.epoch, 60), result), RULE, NOW)
    assert (after.state, after.reason, after.cooldown_seconds) == (state, reason, seconds)
    assert after.epoch == probing.epoch + 1
    if result is NOT_MADE:
        assert after.next_probe_at == NOW


@pytest.mark.parametrize(("answered", "opens"), [(0, True), (1, False)])
def test_it_opens_where_the_provider_refuses_all_calls_and_stays_closed_where_it_answers_one(fleet, answered, opens):
    lucky, others = fleet.worker(), [fleet.worker() for _ in range(4)]
    for _ in range(10):
        for worker in others:
            permit = worker.may_call()
            if isinstance(permit, Permit):
                worker.report(CallReport(permit, THROTTLED))
        for _ in range(answered):
            call(lucky, OK)
        fleet.pass_(1)
    assert (fleet.store.item.state is OPEN) is opens
    assert fleet.store.item.reason == ("refusals" if opens else None)


def test_a_provider_that_answers_some_calls_costs_no_writes_for_those_that_it_refuses(fleet):
    worker = fleet.worker()
    for _ in range(20):
        call(worker, OK)
        call(worker, THROTTLED)
        fleet.pass_(1)
    assert fleet.store.writes == 0


@pytest.mark.parametrize(("asked", "cooldown"), [(0, 30), (20, 30), (3600, 3600), (1e9, 86400)])
def test_a_probe_that_is_refused_again_opens_it_for_as_long_as_the_provider_asked_at_least(asked, cooldown):
    probing = half_opened(opened(BreakerState("openai"), RULE, NOW, "refusals"), RULE, NOW, "me")
    after = after_call(probing, CallReport(Probe(probing.epoch, 60), THROTTLED, asked), RULE, NOW)
    assert (after.state, after.reason, after.cooldown_seconds) == (OPEN, "refusals", cooldown)
    assert after.next_probe_at == NOW + timedelta(seconds=cooldown)


def test_refusals_open_it_for_as_long_as_the_provider_asked_and_its_next_probe_may_come_at_once_after_that(fleet):
    workers = [fleet.worker() for _ in range(10)]
    for worker in workers:
        worker.report(CallReport(worker.may_call(), THROTTLED, 600))
        fleet.pass_(1)
    workers[-1].flush()
    assert fleet.store.item.reason == "refusals"
    assert 595 <= fleet.store.item.cooldown_seconds <= 600
    fleet.pass_(601)
    assert isinstance(workers[0].may_call(), Probe)


def test_denied_credentials_open_it_at_once_and_for_longer(fleet):
    worker, other = fleet.worker(), fleet.worker()
    call(other, OK)
    call(worker, DENIED)
    state = fleet.store.item
    assert (state.state, state.reason, state.cooldown_seconds) == (OPEN, CREDENTIALS, 60)
    assert state.describe() == "openai breaker open (credentials)"
    fleet.pass_(1)
    assert isinstance(other.may_call(), OpenBreaker)


@pytest.mark.parametrize("workers", [1, 2, 10, 100])
@pytest.mark.parametrize("start", [0.0, 0.7, 1.3, 1.9])
def test_it_opens_within_five_seconds_of_its_threshold(fleet, workers, start):
    fleet.world.seconds += start
    all_of_them = [fleet.worker() for _ in range(workers)]
    reached = None
    for turn in range(1000):
        permit = all_of_them[turn % workers].may_call()
        if not isinstance(permit, Permit):
            break
        all_of_them[turn % workers].report(CallReport(permit, FAILED))
        if turn + 1 == RULE.calls:
            reached = fleet.world.seconds
        fleet.pass_(max(0.1, 1.0 / workers))
    opened_at = (fleet.store.item.since - NOW).total_seconds()
    assert fleet.store.item.state is OPEN
    assert opened_at - reached <= 5


def test_many_denials_at_once_open_it_once(fleet):
    workers = [fleet.worker() for _ in range(5)]
    permits = [worker.may_call() for worker in workers]
    for worker, permit in zip(workers, permits, strict=True):
        worker.report(CallReport(permit, DENIED))
    assert [state.state for state in fleet.told] == [OPEN]
    assert fleet.store.item.epoch == 1


def test_a_late_answer_of_a_call_from_before_changes_nothing(fleet):
    worker, late = fleet.worker(), fleet.worker()
    permits = [late.may_call() for _ in range(30)]
    open_it(fleet, worker)
    state = fleet.store.item
    for permit in permits[:10]:
        late.report(CallReport(permit, OK))
    assert fleet.store.item == state
    fleet.pass_(16)
    call(worker, OK)
    assert fleet.store.item.state is CLOSED
    fleet.pass_(1)
    assert isinstance(late.may_call(), Permit)
    for permit in permits[10:]:
        late.report(CallReport(permit, DENIED))
    fleet.pass_(5)
    assert isinstance(late.may_call(), Permit)
    assert (fleet.store.item.state, fleet.store.item.counts) == (CLOSED, {})


def test_a_probe_that_was_replaced_decides_nothing(fleet):
    worker, other = fleet.worker(), fleet.worker()
    open_it(fleet, worker)
    fleet.pass_(16)
    lost = worker.may_call()
    assert isinstance(lost, Probe)
    fleet.pass_(1)
    assert other.may_call().seconds <= 10  # it may be decided any moment
    fleet.pass_(RULE.probe_seconds - 1)
    assert isinstance(other.may_call(), OpenBreaker)
    fleet.pass_(2)
    probe = other.may_call()
    assert isinstance(probe, Probe)
    worker.report(CallReport(lost, OK))
    assert fleet.store.item.state is HALF_OPEN
    other.report(CallReport(probe, FAILED))
    assert (fleet.store.item.state, fleet.store.item.cooldown_seconds) == (OPEN, 30)


@pytest.mark.parametrize("off", [-3600.0, -5.0, -0.5, 0.0])
def test_a_clock_that_is_behind_or_jumps_back_keeps_nobody_away_for_longer_than_the_cooldown(fleet, off):
    worker = fleet.worker()
    open_it(fleet, worker)
    worker._clock.off = off
    stays = []
    while isinstance(said := worker.may_call(), OpenBreaker):
        stays.append(said.seconds)
        fleet.pass_(1)
    assert isinstance(said, Probe)
    assert len(stays) <= 16
    assert max(stays) <= 15 * 1.5


def test_a_clock_that_is_ahead_probes_no_earlier_than_it_is_ahead(fleet):
    worker, ahead = fleet.worker(), fleet.worker(off=5)
    open_it(fleet, worker)
    opened_at = fleet.store.item.since
    fleet.pass_(1)
    while isinstance(ahead.may_call(), OpenBreaker):
        fleet.pass_(0.5)
    assert fleet.now() - opened_at >= timedelta(seconds=10)


def test_two_clocks_ten_seconds_apart_do_not_make_two_probes(fleet):
    behind, ahead = fleet.worker(off=-4.9), fleet.worker(off=4.9)
    open_it(fleet, behind)
    fleet.pass_(30)
    assert isinstance(behind.may_call(), Probe)
    fleet.pass_(RULE.probe_seconds - 1)
    assert isinstance(ahead.may_call(), OpenBreaker)
    fleet.pass_(2)
    assert isinstance(ahead.may_call(), Probe)


def test_a_probe_is_due_by_the_clock_or_by_what_the_worker_has_seen():
    state = opened(BreakerState("openai"), RULE, NOW, "failures")
    assert seconds_to_probe(state, RULE, NOW, 0) == 15
    assert seconds_to_probe(state, RULE, NOW + timedelta(seconds=15), 0) == 0
    assert seconds_to_probe(state, RULE, NOW - timedelta(hours=1), 15) == 0
    held = replace(state, by="ann", next_probe_at=None)
    assert seconds_to_probe(held, RULE, NOW + timedelta(days=1), 1e6) > 0


def test_waiters_do_not_come_back_at_once(fleet):
    open_it(fleet, fleet.worker())
    fleet.pass_(1)
    seconds = {fleet.worker().may_call().seconds for _ in range(20)}
    left = (fleet.store.item.next_probe_at - fleet.now()).total_seconds()
    assert len(seconds) > 15
    assert min(seconds) >= left
    assert max(seconds) <= left * 1.5


def test_what_cannot_be_read_is_believed_for_ten_seconds(fleet):
    worker = fleet.worker()
    call(worker, OK)
    for _ in range(int(KNOWN_SECONDS)):
        fleet.pass_(1)
        fleet.store.faults = ["refused"]
        assert isinstance(worker.may_call(), Permit)
    fleet.pass_(1)
    fleet.store.faults = ["refused"]
    assert isinstance(worker.may_call(), OpenBreaker)
    fleet.pass_(1)
    assert isinstance(worker.may_call(), Permit)


def test_who_leaves_writes_what_was_not_yet_due(fleet):
    worker = fleet.worker()
    for _ in range(8):
        call(worker, FAILED)
    assert sum(fleet.store.item.counts.values(), Count()) == Count(1, 1)
    worker.flush()
    assert sum(fleet.store.item.counts.values(), Count()) == Count(8, 8)


def test_what_was_counted_before_it_opened_does_not_count_after_it_closed(fleet):
    worker, operator = fleet.worker(), fleet.worker()
    for _ in range(8):
        call(worker, FAILED)
    operator.open("maintenance", by="ann", why="x")
    operator.close(by="ann", why="x")
    fleet.pass_(1)
    worker.may_call()
    worker.flush()
    assert fleet.store.item.counts == {}


def test_a_read_that_is_older_than_what_the_worker_did_changes_nothing(fleet):
    worker = fleet.worker()
    call(worker, DENIED)
    fleet.world.seconds += 1
    assert fleet.store.get("openai").state is CLOSED
    assert isinstance(worker.may_call(), OpenBreaker)


def test_counts_whose_answer_was_lost_are_sent_again_and_count_once(fleet):
    worker = fleet.worker()
    call(worker, OK)
    fleet.store.faults = ["lost"]
    call(worker, FAILED)
    call(worker, FAILED)
    fleet.pass_(1)
    worker.may_call()
    assert sum(fleet.store.item.counts.values(), Count()) == Count(2, 1)
    fleet.pass_(1)
    worker.may_call()
    assert sum(fleet.store.item.counts.values(), Count()) == Count(3, 2)


def test_eight_threads_of_a_worker_are_counted_each(fleet):
    worker, barrier = fleet.worker(), threading.Barrier(8)

    def work(_):
        barrier.wait()
        for _ in range(50):
            call(worker, FAILED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    worker.flush()
    assert sum(fleet.store.item.counts.values(), Count()) == Count(400, 400)


def test_an_operator_who_never_wins_is_told(fleet, monkeypatch):
    monkeypatch.setattr(fleet.store, "move", lambda *_: None)
    with pytest.raises(StoreUnavailable):
        fleet.worker().open("maintenance", by="ann", why="x")


def test_spread_is_of_the_system_s_own_randomness():
    assert type(breaking._random).__name__ == "SystemRandom"


MOVES = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
ACTIONS = st.one_of(
    st.tuples(st.just("call"), st.integers(0, 3), st.sampled_from([OK, FAILED, FAILED, FAILED, DENIED])),
    st.tuples(st.just("begin"), st.integers(0, 3), st.none()),
    st.tuples(st.just("answer"), st.integers(0, 9), st.sampled_from(list(CallResult))),
    st.tuples(st.just("burst"), st.integers(0, 3), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([0.3, 1.0, 3.0, 16.0, 57.0, 80.0]), st.none()),
    st.tuples(st.just("die"), st.integers(0, 3), st.none()),
    st.tuples(st.just("fault"), st.sampled_from(["refused", "lost"]), st.none()),
)


class Simulation:
    """Four workers whose clocks differ, what they were permitted and have not yet reported, and who probes."""

    def __init__(self, skews):
        self.fleet, self.skews = Fleet(), skews
        self.workers = [self.fleet.worker(off) for off in skews]
        self.waiting, self.probes = [], {}
        self.faults = False

    def do(self, action, which, result):
        if action == "pass":
            self.fleet.pass_(which)
        elif action == "die":
            self.workers[which] = self.fleet.worker(self.skews[which])
        elif action == "fault":
            self.fleet.store.faults.append(which)
            self.faults = True
        elif action == "answer":
            if which < len(self.waiting):
                self.answer(*self.waiting.pop(which), result)
        else:
            self.call(action, self.workers[which], result or FAILED)

    def call(self, action, worker, result):
        for _ in range(12 if action == "burst" else 1):
            permit = worker.may_call()
            if isinstance(permit, Probe):
                self.probes[permit.epoch] = self.only_probe_at()
            if action == "begin":
                self.waiting.append((worker, permit))
            elif not isinstance(permit, OpenBreaker):
                self.answer(worker, permit, result)

    def only_probe_at(self):
        now = self.fleet.world.seconds
        assert all(now - taken >= RULE.probe_seconds for taken in self.probes.values())
        return now

    def answer(self, worker, permit, result):
        if isinstance(permit, OpenBreaker):
            return
        before = self.fleet.store.item
        worker.report(CallReport(permit, result))
        if self.fleet.store.item.state is CLOSED and before.state is not CLOSED and not self.faults:
            assert isinstance(permit, Probe)
            assert permit.epoch == before.epoch
            assert result in (OK, THROTTLED)
        if isinstance(permit, Probe):
            self.probes.pop(permit.epoch, None)

    def check(self):
        moves = self.fleet.store.moves
        assert all((before.state, after.state) in MOVES for before, after in moves)
        epochs, told = [after.epoch for _, after in moves], [state.epoch for state in self.fleet.told]
        assert epochs == list(range(1, len(moves) + 1))
        assert len(set(told)) == len(told)
        assert self.faults or sorted(told) == epochs


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=60), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_whatever_happens_one_probes_and_only_its_success_closes(actions, skews):
    simulation = Simulation(skews)
    for action in actions:
        simulation.do(*action)
    simulation.check()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 1.0])), max_size=80))
def test_a_worker_reads_and_writes_no_more_than_once_a_second(calls):
    fleet = Fleet(replace(RULE, share=1.0, calls=10**6))
    workers = [fleet.worker() for _ in range(5)]
    for number, fails, seconds in calls:
        call(workers[number], FAILED if fails else OK)
        fleet.pass_(seconds)
    most = 5 * (int(fleet.world.seconds) + 1)
    assert fleet.store.reads <= most
    assert fleet.store.writes <= most
    if not any(fails for _, fails, _ in calls):
        assert fleet.store.writes == 0
