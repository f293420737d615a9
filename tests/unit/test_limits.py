"""A provider's limit: what may start when, whatever the clocks, the threads and the store do."""

from __future__ import annotations

import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backhaul.model.errors import StoreUnavailable
from backhaul.model.limit import HEAD_START, MINUTE, SECOND, Lease, LimitState, Rate, Refusal, Reservation, UpdateResult
from backhaul.paid.limit.limiter import Limiter
from backhaul.paid.limit.rule import MAX_CATCH_UP, MAX_CLOSED, TRIES
from backhaul.providers.calls import RateLimits
from benchmarks.limits.__main__ import broken
from benchmarks.limits.ours import Setting, simulate
from benchmarks.limits.peers import PEERS, simulate_peer
from benchmarks.limits.world import BEGAN, MemoryLimits

STEP = SECOND // 10
TEN = Rate(requests=600)
"""Ten calls a second: one every 100,000 microseconds."""
START = round(BEGAN.timestamp() * SECOND)


class Machine:
    """The true time, and a store that tells it."""

    def __init__(self, **options):
        self.at = 0.0
        self.store = MemoryLimits(lambda: self.at, **options)

    def advance(self, seconds):
        self.at += seconds

    def clock(self, skew=0.0):
        return WorkerClock(self, skew)

    def limiter(self, rate=TEN, skew=0.0, **options):
        return Limiter("provider", rate, options.pop("store", self.store), self.clock(skew), **options)

    @property
    def state(self):
        return self.store.state


class WorkerClock:
    """One worker's clock: off by some seconds, which may change."""

    def __init__(self, machine, skew):
        self._machine = machine
        self.skew = skew

    def now(self):
        return BEGAN + timedelta(seconds=self._machine.at + self.skew)

    def monotonic(self):
        return 1000 + self._machine.at

    def sleep(self, seconds):
        raise AssertionError("a limiter never sleeps")


@pytest.fixture
def machine():
    return Machine()


def asked(limiter, times, tokens=0):
    """Ask so often and return when the calls may start, in microseconds after the beginning."""
    found = [limiter.ask(tokens) for _ in range(times)]
    assert all(isinstance(each, Reservation) for each in found)
    return [each.at - START for each in found]


# --- the rule


def test_the_first_call_starts_at_once_and_the_next_in_turn(machine):
    head = HEAD_START
    assert asked(machine.limiter(), 3) == [0, STEP + head, 2 * STEP + head]


def test_each_call_costs_one_write_and_reads_nothing(machine):
    limiter = machine.limiter()
    limiter.ask()
    before = machine.store.writes
    asked(limiter, 20)
    assert machine.store.writes - before == 20


def test_who_asks_late_catches_up_with_the_burst_and_with_no_more(machine):
    limiter = machine.limiter(Rate(requests=600, burst=3 * STEP))
    asked(limiter, 1)
    machine.advance(0.4)
    assert asked(limiter, 4) == [4 * STEP, 4 * STEP, 4 * STEP, 4 * STEP + HEAD_START]
    machine.advance(60)
    assert asked(limiter, 2)[1] == 605 * STEP + HEAD_START  # after a pause there is no burst


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from([0.0, 0.001, 0.03, 0.1, 0.25, 1.0, 2.5, 7.0, 400.0]), st.integers(0, 3000)
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(
    events=EVENTS,
    requests=st.integers(30, 12_000),
    tokens=st.one_of(st.none(), st.integers(10_000, 2_000_000)),
    burst=st.integers(0, 2 * SECOND),
    skews=st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    witness=st.booleans(),
)
def test_whatever_the_interleaving_no_window_has_more_than_the_rate_and_the_burst(
    events, requests, tokens, burst, skews, witness
):
    machine = Machine(witness=witness)
    rate = Rate(requests, tokens, burst)
    limiters = [machine.limiter(rate, skew) for skew in skews]
    starts, before = [], None
    for who, pause, used in events:
        machine.advance(pause)
        said = limiters[who].ask(used)
        if isinstance(said, Reservation):
            starts.append((said.at, used))
        if before and machine.state:
            assert machine.state.requests >= before.requests
            assert machine.state.tokens >= before.tokens
        before = machine.state
    # In the order of the reservations: each start is as far behind an earlier one as what was reserved between them.
    for first in range(len(starts)):
        spent = 0
        for later in range(first + 1, len(starts)):
            spent += starts[later - 1][1]
            distance = starts[later][0] - starts[first][0]
            assert distance + burst >= (later - first) * MINUTE / requests
            assert tokens is None or distance + burst >= spent * MINUTE / tokens - 1


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 25), st.sampled_from([0.0, 0.05, 0.3, 3.0])), max_size=12),
    requests=st.integers(600, 12_000),
)
def test_the_calls_of_leases_keep_the_rate_too(sizes, requests):
    machine = Machine()
    rate = Rate(requests)
    starts = []
    for size, pause in sizes:
        machine.advance(pause)
        limiter = machine.limiter(rate)
        steps = limiter.asking(waiting=size)
        said = drive(machine, steps)
        starts.append(said.at)
        while limiter.lease:
            starts.append(limiter.ask().at)
    for first in range(len(starts)):
        for later in range(first + 1, len(starts)):
            assert starts[later] - starts[first] + rate.burst >= (later - first) * MINUTE / requests - 25


def drive(machine, steps):
    try:
        update = next(steps)
        while True:
            update = steps.send(machine.store.update("provider", update))
    except StopIteration as end:
        return end.value


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"requests": 1, "tokens": 0}, {"requests": 1, "burst": -1}])
def test_a_rate_that_allows_nothing_is_none(wrong):
    with pytest.raises(ValueError, match="allows nothing"):
        Rate(**wrong)


# --- clocks


@pytest.mark.parametrize("skew", [0.5, 5.0])
def test_clocks_that_differ_cost_nothing_of_the_limit(skew):
    result = simulate(Setting(20, 100, (0.025, 0.015), skew, seconds=20))
    assert result.utilisation >= 0.99
    assert result.fullest <= 115
    assert result.refused == 0


def test_a_clock_that_jumps_backwards_is_not_noticed(machine):
    limiter = machine.limiter()
    asked(limiter, 3)
    limiter.time._clock.skew = -3600
    machine.advance(1)
    assert asked(limiter, 1) == [10 * STEP]


@pytest.mark.parametrize("skew", [3600.0, -3600.0, 100.0, -100.0])
@pytest.mark.parametrize("witness", [True, False])
def test_one_worker_with_an_absurd_clock_neither_frees_nor_stalls_anybody(skew, witness):
    machine = Machine(witness=witness)
    limiter, absurd = machine.limiter(), machine.limiter(skew=skew)
    asked(limiter, 20)
    at = asked(absurd, 1)[0]
    assert at == 20 * STEP + HEAD_START
    assert asked(limiter, 2) == [at + STEP, at + 2 * STEP]
    assert abs(machine.state.clock - START) < SECOND
    assert absurd.seconds_until(Reservation(START + SECOND)) == pytest.approx(1)


def test_an_absurd_clock_does_not_become_that_of_the_item_either(machine):
    asked(machine.limiter(skew=3600), 1)
    assert abs(machine.state.clock - START) <= SECOND


def test_after_a_long_pause_nobody_waits_for_what_was_reserved_before_it(machine):
    asked(machine.limiter(), 500)
    machine.advance(3600)
    assert asked(machine.limiter(), 1) == [3600 * SECOND]


def test_a_newcomer_learns_the_shared_clock_and_does_not_move_it(machine):
    asked(machine.limiter(), 1)
    newcomer = machine.limiter(skew=0.5)
    asked(newcomer, 1)
    assert machine.state.clock == START
    assert newcomer.time.now() == START
    slow = machine.limiter(skew=-0.5)
    asked(slow, 1)
    assert slow.time.now() == START


# --- horizon and store


def test_beyond_the_horizon_nothing_is_reserved_and_callers_are_spread(machine):
    rate = Rate(requests=600, horizon=2 * SECOND)
    asked(machine.limiter(rate), 20)
    others = [machine.limiter(rate) for _ in range(10)]
    before = machine.state
    said = [other.ask() for other in others]
    assert all(isinstance(each, Refusal) for each in said)
    assert len({each.seconds for each in said}) == 10
    assert all(0 < each.seconds < 6 for each in said)
    assert machine.state == before


def test_who_knows_to_stay_away_asks_nobody(machine):
    limiter = machine.limiter(Rate(requests=600, horizon=2 * SECOND))
    while isinstance(limiter.ask(), Reservation):
        pass
    before = machine.store.writes
    assert isinstance(limiter.ask(), Refusal)
    assert machine.store.writes == before
    machine.advance(5)
    assert isinstance(limiter.ask(), Reservation)


class Broken:
    """A store that does not do what it is asked."""

    def __init__(self, error):
        self.error = error

    def update(self, provider, update):
        raise self.error


def test_when_the_store_is_throttled_the_answer_is_to_stay_away(machine):
    limiter = machine.limiter(store=Broken(StoreUnavailable("ThrottlingException")))
    said = [limiter.ask() for _ in range(5)]
    assert all(isinstance(each, Refusal) and 1 <= each.seconds <= 3 for each in said)
    assert len({each.seconds for each in said}) == 5
    limiter.refused(10)
    limiter.settle()


def test_an_error_of_ours_is_no_outage(machine):
    with pytest.raises(KeyError):
        machine.limiter(store=Broken(KeyError("x"))).ask()


def test_after_an_outage_what_is_owed_is_still_owed_but_no_credit_is_taken_twice(machine):
    limiter = machine.limiter(Rate(600, 6000))
    reservation = limiter.ask(100)
    limiter.used(reservation, 150)
    limiter._store = Broken(TimeoutError())
    assert isinstance(limiter.ask(100), Refusal)
    assert limiter._debt == 50
    limiter.used(reservation, 0)
    limiter.ask(100)
    assert limiter._debt == 0


def test_who_loses_every_race_stays_away_instead_of_writing_for_ever(machine):
    asked(machine.limiter(), 1)

    class Unlucky:
        writes = 0

        def update(self, provider, update):
            self.writes += 1
            return UpdateResult(False, machine.state)

    unlucky = Unlucky()
    limiter = machine.limiter(store=unlucky)
    assert isinstance(limiter.ask(), Refusal)
    limiter.refused(10)
    limiter.settle()
    assert unlucky.writes == 2 * TRIES


# --- what the provider says


def test_a_retry_after_holds_for_everybody_and_is_one_write(machine):
    limiter, other = machine.limiter(), machine.limiter()
    asked(limiter, 1)
    asked(other, 1)
    before = machine.store.writes
    limiter.refused(20)
    assert machine.store.writes - before == 1
    assert asked(other, 2) == [20 * SECOND, 20 * SECOND + STEP]
    writes = machine.store.writes
    limiter.refused(10)
    assert asked(other, 1) == [20 * SECOND + 2 * STEP]  # never backwards
    assert machine.store.writes - writes <= 2


def test_a_refusal_without_a_retry_after_closes_for_a_moment_and_none_for_ever(machine):
    limiter = machine.limiter()
    asked(limiter, 1)
    limiter.refused()
    assert asked(limiter, 1) == [SECOND]
    limiter.refused(1e9)
    assert machine.state.requests == START + MAX_CLOSED
    limiter.refused(-5)
    assert machine.state.requests == START + MAX_CLOSED


def test_a_refusal_moves_the_calls_of_the_lease(machine):
    limiter = machine.limiter()
    drive(machine, limiter.asking(waiting=5))
    limiter.refused(7)
    assert asked(limiter, 2) == [7 * SECOND, 7 * SECOND + STEP]


def test_a_refusal_may_be_the_first_that_a_worker_tells(machine):
    machine.limiter().refused(20)
    assert machine.state.requests == START + 20 * SECOND
    machine.limiter(skew=3600).refused(30)
    assert machine.state.requests == START + 30 * SECOND


@pytest.mark.parametrize(
    ("said", "requests", "tokens"),
    [
        ({"tokens_left": 400, "tokens_limit": 6000, "tokens_reset": 56.0}, 0, 6),  # 600 more, at 100 a second
        ({"tokens_left": 1000, "tokens_limit": 6000, "tokens_reset": 50.0}, 0, 0),  # enough for one more
        (
            {"tokens_left": 0, "tokens_limit": 500, "tokens_reset": 5.0},
            0,
            5,
        ),  # a call that needs more than there can be
        ({"requests_left": 0, "requests_limit": 10, "requests_reset": 60.0}, 6, 0),
        ({"requests_left": 0, "requests_limit": 600, "requests_reset": 60.0}, 0, 0),  # a tenth of a second is nothing
        ({"requests_left": 0, "requests_limit": 1, "requests_reset": 86400.0}, 300, 0),
        ({"requests_left": 0, "requests_reset": 60.0}, 0, 0),  # nobody knows what that is of
        ({"requests_left": 5, "requests_limit": 5, "requests_reset": 60.0}, 0, 0),
        ({"requests_left": 0, "requests_limit": 0, "requests_reset": 60.0}, 0, 0),
        ({}, 0, 0),
    ],
)
def test_what_a_provider_says_is_left_holds_everybody_back_until_there_is_room(machine, said, requests, tokens):
    limiter = machine.limiter(Rate(600, 600_000))
    reservation = limiter.ask(1000)
    before = machine.state
    limiter.observe(RateLimits(**said), reservation)
    assert machine.state.requests == (START + requests * SECOND if requests else before.requests)
    assert machine.state.tokens == (START + tokens * SECOND if tokens else before.tokens)


# --- tokens


def test_tokens_hold_calls_back_like_requests(machine):
    limiter = machine.limiter(Rate(requests=600, tokens=6000))  # 100 tokens a second
    assert asked(limiter, 3, 50) == [0, SECOND // 2 + HEAD_START, SECOND + HEAD_START]


def test_what_was_really_used_goes_into_the_next_reservation(machine):
    limiter = machine.limiter(Rate(requests=600, tokens=6000))
    reservation = limiter.ask(50)
    before = machine.store.writes
    limiter.used(reservation, 150)
    assert machine.store.writes == before
    limiter.ask(50)
    assert machine.store.writes == before + 1
    assert machine.state.tokens == START + 2 * SECOND + HEAD_START
    limiter.settle()
    assert machine.store.writes == before + 1  # nothing was left


def test_a_credit_that_is_more_than_the_next_call_waits_for_the_one_after(machine):
    limiter = machine.limiter(Rate(requests=600, tokens=6000))
    limiter.used(limiter.ask(1000), 900)
    asked(limiter, 1, 60)
    assert machine.state.tokens == START + 10 * SECOND + HEAD_START
    asked(limiter, 1, 60)
    assert machine.state.tokens == START + 10 * SECOND + HEAD_START + 200_000


def test_settling_stores_what_is_unsettled(machine):
    limiter = machine.limiter(Rate(requests=600, tokens=6000))
    limiter.used(limiter.ask(100), 40)
    limiter.settle()
    assert machine.state.tokens == START + 400_000 + HEAD_START
    writes = machine.store.writes
    limiter.settle()
    assert machine.store.writes == writes


# --- leases


def test_threads_share_what_is_reserved_for_them_and_no_call_is_given_twice(machine):
    lock = threading.Lock()

    class Locked:
        def update(self, provider, update):
            with lock:
                return machine.store.update(provider, update)

    limiter = machine.limiter(Rate(requests=6000), store=Locked(), lease=8)
    with ThreadPoolExecutor(8) as pool:
        ats = [each.at for each in pool.map(lambda _: limiter.ask(), range(200))]
    assert len(set(ats)) == 200
    ordered = sorted(ats)
    assert all(later - first >= 10_000 for first, later in itertools.pairwise(ordered))
    assert machine.store.writes < 60


def test_a_lease_takes_at_most_two_seconds_of_the_limit(machine):
    limiter = machine.limiter(lease=1000)
    drive(machine, limiter.asking(waiting=1000))
    assert limiter.lease.calls == 19


def test_without_a_queue_nothing_is_reserved_for_who_may_not_come(machine):
    limiter = machine.limiter(lease=8)
    asked(limiter, 1)
    assert limiter.lease is None


@pytest.mark.parametrize(("further_calls", "reserved"), [(0, 1), (2, 3), (2.1, 4), (100, 8), (math.inf, 8)])
def test_in_a_queue_as_many_are_reserved_as_may_come(machine, further_calls, reserved):
    limiter, other = machine.limiter(lease=8), machine.limiter()
    asked(limiter, 1)
    asked(other, 20)
    asked(limiter, 1)  # now it knows of the queue
    drive(machine, limiter.asking(further_calls=further_calls))
    assert (limiter.lease.calls if limiter.lease else 0) == reserved - 1


def test_who_waits_is_reserved_for_whatever_is_to_come(machine):
    limiter = machine.limiter(lease=8)
    drive(machine, limiter.asking(waiting=5, further_calls=0))
    assert limiter.lease.calls == 4


def test_the_rest_of_a_lease_whose_holder_died_is_lost_and_nothing_else(machine):
    rate = Rate(requests=6000)
    holder, other = machine.limiter(rate), machine.limiter(rate)
    drive(machine, holder.asking(waiting=20))
    assert asked(other, 1) == [20 * 10_000 + HEAD_START]


def test_what_nobody_reserved_after_is_given_back(machine):
    rate = Rate(requests=600, tokens=6000)
    limiter, other = machine.limiter(rate), machine.limiter(rate)
    drive(machine, limiter.asking(tokens=10, waiting=5))
    limiter.settle()
    once = START + STEP + HEAD_START
    assert machine.state == LimitState(once, once, START, once - rate.burst, once - rate.burst)
    drive(machine, limiter.asking(tokens=10, waiting=5))
    asked(other, 1, 10)
    before = machine.state
    limiter.settle()
    assert machine.state.requests == before.requests
    assert machine.state.tokens == before.tokens - 4 * STEP


def test_calls_of_a_lease_that_are_late_keep_their_distance_and_at_last_are_lost(machine):
    limiter = machine.limiter()
    drive(machine, limiter.asking(waiting=10))
    machine.advance(0.9)
    late = 9 * SECOND // 10
    assert asked(limiter, 3) == [late, late, late + STEP]
    machine.advance(20)
    asked(limiter, 1)
    assert limiter.lease is None


def test_calls_of_a_lease_that_would_be_made_in_others_time_are_not_made(machine):
    limiter = machine.limiter()
    drive(machine, limiter.asking(waiting=10))
    lease, now = limiter.lease, limiter.time.now()
    lost = lease.calls - 2
    late = max(MAX_CATCH_UP, lease.requests_step)
    machine.advance((lease.at - now + late + lost * lease.requests_step) / SECOND)
    asked(limiter, 1)
    assert limiter.lease.calls == 1


def test_nothing_is_handed_out_of_a_lease_whose_last_call_is_too_late(machine):
    limiter = machine.limiter()
    drive(machine, limiter.asking(waiting=10))
    lease = limiter.lease
    machine.advance(30)
    reservation = limiter.ask()
    assert reservation.at > lease.at + 29 * SECOND
    assert limiter.lease is None


# --- leaving and coming back


@pytest.mark.parametrize("value", [Reservation(START, 10), Refusal(1.5), Lease(START, START, STEP, 0, 3, 10)])
def test_answers_and_leases_are_values_that_json_keeps(value):
    text = msgspec.json.encode(value)
    assert msgspec.json.decode(text, type=type(value)) == value
    assert len(text) < 200


def test_another_process_may_use_a_reservation_and_a_lease_late_but_not_too_late(machine):
    limiter = machine.limiter()
    asked(limiter, 30)
    reservation = drive(machine, limiter.asking(waiting=5))
    lease = limiter.lease
    assert limiter.seconds_until(reservation) == pytest.approx(3, abs=0.1)
    machine.advance(limiter.seconds_until(reservation) + 0.4)
    successor = machine.limiter()
    successor.lease = lease
    assert successor.seconds_until(reservation) == 0
    assert not successor.is_void(reservation)
    assert isinstance(successor.ask(), Reservation)
    machine.advance(MAX_CATCH_UP / SECOND)
    assert successor.is_void(reservation)


def test_of_a_slow_limit_a_reservation_may_be_used_until_the_next_ones_turn(machine):
    limiter = machine.limiter(Rate(requests=6))
    reservation = limiter.ask()
    machine.advance(9.9)
    assert not limiter.is_void(reservation)
    machine.advance(0.2)
    assert limiter.is_void(reservation)


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_with_an_absurd_clock_a_reservation_is_made_anew_instead_of_waited_for(machine, skew):
    reservation = machine.limiter().ask()
    successor = machine.limiter(skew=skew)
    assert successor.is_void(reservation)
    again = successor.ask()
    assert not successor.is_void(again)
    assert successor.seconds_until(again) < 1


# --- the benchmark itself


def test_the_benchmark_knows_a_broken_bound():
    setting = Setting(20, 10, (0.004, 0.002), seconds=20)
    result = simulate(setting)
    assert list(broken(setting, result)) == []
    worse = type(result)(0.5, 20, 0.1, 9.0, 50)
    assert list(broken(setting, worse)) == ["utilisation", "fullest second", "refused", "writes per call"]


@pytest.mark.parametrize("name", PEERS)
def test_the_benchmark_uses_other_libraries_so_that_they_keep_their_limit(name):
    result = simulate_peer(name, Setting(20, 10, (0.004, 0.002), seconds=10))
    assert 0.8 < result.utilisation <= 1.1
    assert result.fullest <= 12
    assert result.refused == 0
    assert result.writes > 2
