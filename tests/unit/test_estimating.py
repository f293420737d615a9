"""The rules of an estimate: what is made of what was read, and how far apart the least and the most are."""

import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul.estimate import estimate as rules
from backhaul.estimate import prices
from backhaul.estimate.estimate import (
    CALL_SECONDS,
    Range,
    Sampled,
    Workforce,
    extrapolate,
    sampling_error,
    together,
)
from backhaul.estimate.prices import MIB, AwsUse, JobShape, aws_use
from backhaul.model.shard import plan_shards, shards_for
from backhaul.model.waits import MAX_SLEEP
from backhaul.paid.channels import rate_of
from backhaul.plugin.processor import Expected
from backhaul.providers import Provider
from backhaul.reading import Chunk
from backhaul.worker import commit
from stacks.function import WHOLE_CPU

ALONE = Workforce(workers=100, concurrency=1, seconds=300)
ACME = {"name": "acme", "kind": "openai", "base_url": "https://api.acme.example/v1", "model": "m"}


def provider(name="acme", **changes):
    made = Provider(**ACME | {"name": name, "price_input": 1, "price_output": 4} | changes)
    return made, rate_of(made)


def estimated(*calls, size=1000, read=1000, chunks=1, records=10, error=0.0, workforce=ALONE, **limits):
    providers = {each.provider: provider(each.provider, **limits) for each in calls}
    sampled = Sampled(read, records, calls, error)
    return extrapolate("p", size, chunks, sampled, providers=providers, workforce=workforce)


def test_the_range_of_tokens_and_cost_is_made_as_the_documents_say():
    made = estimated(Expected("acme", 10, 1_000_000, 100_000, 400_000))
    (each,) = made.providers
    assert each.calls == Range(10, 10, 10)
    assert each.input_tokens == Range(750_000, 1_000_000, 1_500_000)
    assert each.output_tokens == Range(10, 100_000, 400_000)
    assert (each.cost.low, each.cost.likely, each.cost.high) == ("0.75004", "1.40", "3.10")
    assert made.cost == each.cost


def test_what_was_read_is_extrapolated_and_its_error_widens_every_range():
    made = estimated(Expected("acme", 10, 1000, 20, 40), size=4000, error=0.125)
    (each,) = made.providers
    assert made.records == Range(35, 40, 45)
    assert each.calls == Range(35, 40, 45)
    assert each.input_tokens == Range(2625, 4000, 6750)
    assert each.output_tokens == Range(35, 80, 180)


def test_calls_of_two_providers_are_told_apart_and_the_slower_one_binds():
    fast, slow = Expected("fast", 100, 100), Expected("slow", 1000, 100)
    made = estimated(fast, slow, fast, requests_per_minute=60)
    assert [each.provider for each in made.providers] == ["fast", "slow"]
    assert [each.calls.likely for each in made.providers] == [200, 1000]
    assert (made.slowest, made.limit, made.seconds) == ("slow", "requests_per_minute", 999.0)


@pytest.mark.parametrize(
    ("limits", "limit", "seconds"),
    [
        ({}, "calls", 100 * CALL_SECONDS),
        ({"requests_per_minute": 60}, "requests_per_minute", 99),
        ({"requests_per_minute": 6000, "tokens_per_minute": 11_000}, "tokens_per_minute", 59.4),
        ({"tokens_per_minute": 11_000}, "tokens_per_minute", 59.4),
        ({"requests_per_minute": 60_000}, "calls", 100 * CALL_SECONDS),
    ],
)
def test_what_binds_is_the_slowest_of_requests_tokens_and_the_calls_themselves(limits, limit, seconds):
    made = estimated(Expected("acme", 100, 10_000, 1000), **limits)
    assert (made.limit, made.seconds) == (limit, pytest.approx(seconds))


def test_a_file_that_takes_longer_to_read_than_its_calls_says_so():
    made = estimated(Expected("acme", 1, 1), size=1000 * MIB, read=1000 * MIB, chunks=125)
    assert (made.limit, made.slowest, made.seconds) == ("reading", None, 15.6)


def test_one_call_waits_for_nothing():
    assert estimated(Expected("acme", 1, 1000), requests_per_minute=1, tokens_per_minute=1000).seconds == CALL_SECONDS


AMOUNT = st.floats(0, 1e12)
EXPECTED = st.builds(Expected, st.sampled_from(["a", "b"]), AMOUNT, AMOUNT, AMOUNT, AMOUNT)


@given(
    st.lists(EXPECTED, max_size=4),
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.integers(1, 100_000),
    st.floats(0, 1),
    st.integers(1, 10**6),
)
def test_no_range_is_upside_down_and_nothing_is_negative(calls, read, more, chunks, error, per_minute):
    made = estimated(
        *calls,
        size=read + more,
        read=read,
        chunks=chunks,
        error=error,
        requests_per_minute=per_minute,
        tokens_per_minute=per_minute,
    )
    for each in made.providers:
        for found in (each.calls, each.input_tokens, each.output_tokens):
            assert 0 <= found.low <= found.likely <= found.high
        assert 0 <= each.seconds <= made.seconds
    low, likely, high = made.cost.nanodollars
    assert 0 <= low <= likely <= high
    assert Decimal(made.aws_cost) > 0


@given(st.lists(EXPECTED, max_size=8))
def test_calls_that_are_put_together_are_as_many_as_before(calls):
    merged = together(calls)
    assert len({each.provider for each in merged}) == len(merged)
    assert sum(each.calls for each in merged) == pytest.approx(sum(each.calls for each in calls))
    assert all(each.max_output_tokens >= each.output_tokens for each in merged)


def test_the_error_of_a_sample_is_two_standard_errors():
    assert sampling_error([(10, 5.0), (10, 5.0), (20, 10.0)], 0.1) == 0
    # Squares 2 * 25, n / (n - 1) = 2, the amount 20: 2 * sqrt(100 * (1 - 0.75)) / 20.
    assert sampling_error([(10, 5.0), (10, 15.0)], 0.75) == pytest.approx(0.5)
    assert sampling_error([(10, 5.0), (10, 15.0)], 1.0) == 0
    assert sampling_error([(10, 5.0)], 0.1) == 1
    assert sampling_error([(10, 0.0), (10, 0.0)], 0.1) == 0
    assert sampling_error([(10, 0.0)] * 9 + [(10, 1e9)], 0.1) == 1


@given(st.integers(1, 5000))
def test_as_many_shards_are_foretold_as_are_planned(chunks):
    planned = list(plan_shards([Chunk(number, number, number + 1) for number in range(chunks)]))
    assert shards_for(chunks) == len(planned)


# --- AWS


def test_the_cost_of_a_job_is_that_of_the_page_on_costs():
    use = aws_use(JobShape(size=1000 * 8 * MIB, shards=16, worker_seconds=2000))
    assert use.transitions == 70
    assert prices.TRANSITION.cost(use.transitions) == pytest.approx(0.00175)
    assert prices.S3_WRITE.cost(use.s3_writes) == pytest.approx(0.0025, rel=0.05)
    assert prices.WRITE_UNIT.cost(use.write_units) == pytest.approx(0.0003, rel=0.2)
    assert prices.GB_SECOND.cost(use.gb_seconds) == pytest.approx(0.046, rel=0.01)


def test_each_price_says_what_it_is_for_and_where_it_is_published_and_all_of_them_when_they_were_read():
    assert re.fullmatch("[a-z]+-[a-z]+-[0-9]", prices.AWS.region)
    assert re.fullmatch(r"20\d\d-(0[1-9]|1[0-2])", prices.AWS.read)
    for each in prices.AWS.prices.values():
        assert each.source.startswith("https://aws.amazon.com/")
        assert each.what
        assert each.cost(each.units) == Fraction(each.dollars) > 0


def test_every_price_of_the_file_has_a_name_in_the_code():
    named = {name.lower() for name, each in vars(prices).items() if isinstance(each, prices.Price)}
    assert named == prices.AWS.prices.keys()


def test_use_costs_what_its_parts_cost():
    million = AwsUse(*[1e6] * 7)
    assert million.cost() == round((25 + 0.2 + 13.3334 + 0.625 + 0.125 + 5 + 0.4) * 10**9)
    assert AwsUse(*[0] * 7).cost() == 0


def test_workers_that_wait_outside_cost_transitions_and_not_time():
    calls = Expected("acme", 3600, 3600)
    busy = Workforce(workers=100, concurrency=8, seconds=300)
    waiting = estimated(calls, chunks=64, workforce=busy, requests_per_minute=60)
    staying = estimated(calls, chunks=1, workforce=Workforce(100, 1, 300), requests_per_minute=60)
    hour = 3600 * WHOLE_CPU / 1024 * 0.0000133334
    # Sixteen workers would otherwise be there for an hour each.
    assert float(waiting.aws_cost) < 16 * hour / 2
    assert hour <= float(staying.aws_cost) <= 1.5 * hour


def test_the_model_of_costs_goes_by_what_the_pipeline_does():
    assert (prices.COMMIT_BYTES, prices.COMMIT_SECONDS) == (commit.COMMIT_BYTES, commit.COMMIT_SECONDS)
    assert prices.WORKER_GB == WHOLE_CPU / 1024
    assert rules.STAY_SECONDS == MAX_SLEEP
