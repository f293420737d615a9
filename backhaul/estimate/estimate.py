"""Estimates: from a sample of a file, and the calls that the processor expects for it, to a job's calls, cost and time.

Every range has one of four sources, which docs/flow.md explains to users: the error of the token count, the error of
the sample, the shortest possible answer and the longest possible answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from backhaul.estimate.prices import WORK_BYTES, JobShape, aws_use
from backhaul.model.limit import SECOND, Rate
from backhaul.model.money import DOLLAR, dollars
from backhaul.model.shard import shards_for
from backhaul.plugin.processor import Expected
from backhaul.providers.calls import Usage
from backhaul.providers.provider import Provider

TOKENS_LOW, TOKENS_HIGH = 0.75, 1.5
"""Factors from a count by `estimate_tokens` to the fewest and the most tokens. The count is up to a third too high for
some languages, and a tokenizer other than `o200k_base` takes up to half more (docs/providers.md)."""
CALL_SECONDS = 0.2
"""The shortest time of a call: an assumption, for a short answer from a provider near by."""
STAY_SECONDS = 2.0
"""A worker that has to wait for longer than this leaves (`MAX_SLEEP` in `backhaul/model/waits.py`) ..."""
VISIT_SECONDS = 1.5
"""The worker time that each return costs: a second of sleep, and half a second to begin."""
_AWS_STEP = DOLLAR // 10_000
"""AWS costs are rounded up to a hundredth of a cent, because more digits would look exact."""

Limit = Literal["requests_per_minute", "tokens_per_minute", "calls", "reading"]
"""What decides a job's shortest time: a provider's limit, the duration of its calls, or the reading of its file."""


@dataclass(frozen=True)
class Sampled:
    """The part of a file that was read, in bytes and whole records, and the calls that the processor expects for it.

    `error` is how far the rest may differ: two standard errors, as a share; 0 if the whole file was read.
    """

    bytes: int
    records: int
    calls: tuple[Expected, ...] = ()
    error: float = 0.0


@dataclass(frozen=True)
class Range:
    """An estimated count: the least, the likely one and the most."""

    low: int
    likely: int
    high: int


@dataclass(frozen=True)
class CostRange:
    """An estimated cost in US dollars, such as "2.50": the least, the likely one and the most."""

    low: str
    likely: str
    high: str

    @classmethod
    def of(cls, amounts: Sequence[int]) -> CostRange:
        """Return the range from its three amounts in nanodollars."""
        return cls(*map(dollars, amounts))

    @property
    def nanodollars(self) -> tuple[int, int, int]:
        """The three amounts in nanodollars."""
        low, likely, high = (int(Decimal(each) * DOLLAR) for each in (self.low, self.likely, self.high))
        return low, likely, high


@dataclass(frozen=True)
class ProviderEstimate:
    """A job's calls of one provider, their tokens and cost, and the `seconds` that they take at least.

    `limit` is what decides that time.
    """

    provider: str
    calls: Range
    input_tokens: Range
    output_tokens: Range
    cost: CostRange
    seconds: float
    limit: Limit


@dataclass(frozen=True)
class Estimate:
    """What a job will take: `cost` is what its providers charge, `aws_cost` is about what AWS charges, in US dollars.

    The job takes at least `seconds`, because of `limit`. If a provider decides that time, `slowest` is its name.
    """

    processor: str
    size: int
    read: int
    """Bytes of the file that the estimate is made from."""
    chunks: int
    shards: int
    records: Range
    providers: tuple[ProviderEstimate, ...]
    cost: CostRange
    aws_cost: str
    seconds: float
    limit: Limit
    slowest: str | None


@dataclass(frozen=True)
class Workforce:
    """The most workers of a job, the calls that each makes at a time, and the seconds for which each may stay."""

    workers: int
    concurrency: int
    seconds: int


def extrapolate(
    processor: str,
    size: int,
    chunks: int,
    sampled: Sampled,
    *,
    providers: Mapping[str, tuple[Provider, Rate | None]],
    workforce: Workforce,
) -> Estimate:
    """Return what a job for a file of `size` bytes will take; `providers` has each called provider and its limit."""
    scale, shards = size / sampled.bytes, shards_for(chunks)
    busy = min(shards, workforce.workers)
    asked = tuple(
        _of_provider(each, scale, sampled.error, *providers[each.provider], busy * workforce.concurrency)
        for each in together(sampled.calls)
    )
    reading = size / WORK_BYTES / busy
    slowest = max(asked, key=lambda each: each.seconds, default=None)
    waits = slowest is not None and slowest.seconds > reading
    seconds = slowest.seconds if slowest is not None and waits else reading
    limited = {each.provider for each in asked if providers[each.provider][1] is not None}
    shape = _shape(size, shards, asked, limited, seconds, busy, workforce)
    return Estimate(
        processor=processor,
        size=size,
        read=sampled.bytes,
        chunks=chunks,
        shards=shards,
        records=_range(sampled.records * scale, sampled.error),
        providers=asked,
        cost=CostRange.of(
            [sum(amounts) for amounts in zip((0, 0, 0), *(each.cost.nanodollars for each in asked), strict=True)]
        ),
        aws_cost=dollars(-(-aws_use(shape).cost() // _AWS_STEP) * _AWS_STEP),
        seconds=round(seconds, 1),
        limit=slowest.limit if slowest is not None and waits else "reading",
        slowest=slowest.provider if slowest is not None and waits else None,
    )


def together(calls: Sequence[Expected]) -> list[Expected]:
    """Return the sum of the expected calls for each provider, in the order in which providers are first named."""
    sums: dict[str, Expected] = {}
    for each in calls:
        before = sums.get(each.provider, Expected(each.provider, 0, 0))
        sums[each.provider] = Expected(
            each.provider,
            before.calls + each.calls,
            before.input_tokens + each.input_tokens,
            before.output_tokens + each.output_tokens,
            before.max_output_tokens + max(each.output_tokens, each.max_output_tokens),
        )
    return list(sums.values())


def sampling_error(pieces: Sequence[tuple[int, float]], share: float) -> float:
    """Return the error of a sum that is extrapolated from pieces, as a share of it: two standard errors, at most 1.

    Each piece is (bytes, amount); `share` is their part of the whole file. A whole file has no error. The formula is
    that of a ratio estimate (Cochran, Sampling Techniques, chapter 6).
    """
    amount, size, count = sum(each for _, each in pieces), sum(each for each, _ in pieces), len(pieces)
    if share >= 1 or not amount:
        return 0.0
    if count < 2:
        return 1.0
    ratio = amount / size
    squares = sum((each - ratio * length) ** 2 for length, each in pieces)
    return min(2 * math.sqrt((1 - share) * squares * count / (count - 1)) / amount, 1.0)


def _of_provider(
    expected: Expected, scale: float, error: float, provider: Provider, rate: Rate | None, at_a_time: int
) -> ProviderEstimate:
    calls = _range(expected.calls * scale, error)
    inputs = _range(expected.input_tokens * scale, error, TOKENS_LOW, TOKENS_HIGH)
    guess, most = expected.output_tokens * scale, expected.max_output_tokens * scale
    # The least is one token per call: a job that is refused because its cost exceeds a cap must exceed it for certain.
    outputs = Range(min(calls.low, math.floor(guess)), math.ceil(guess), math.ceil(most * (1 + error)))
    cost = CostRange.of(
        [provider.cost(Usage(getattr(inputs, which), getattr(outputs, which))) for which in ("low", "likely", "high")]
    )
    seconds, limit = _least_seconds(calls.likely, inputs.likely + outputs.likely, rate, at_a_time)
    return ProviderEstimate(expected.provider, calls, inputs, outputs, cost, round(seconds, 1), limit)


def _least_seconds(calls: int, tokens: int, rate: Rate | None, at_a_time: int) -> tuple[float, Limit]:
    """Return the least seconds that so many calls take, and the limit that decides it."""
    found: list[tuple[float, Limit]] = [(math.ceil(calls / at_a_time) * CALL_SECONDS, "calls")]
    if rate is not None and calls:
        # The first call does not wait.
        found.append((rate.request_cost(calls - 1) / SECOND, "requests_per_minute"))
        found.append((rate.token_cost(tokens * (calls - 1) // calls) / SECOND, "tokens_per_minute"))
    return max(found, key=lambda each: each[0])


def _shape(
    size: int,
    shards: int,
    asked: Sequence[ProviderEstimate],
    limited: set[str],
    seconds: float,
    busy: int,
    workforce: Workforce,
) -> JobShape:
    """Return the job's use of workers. A worker stays if its next call may start soon, and otherwise leaves."""
    calls = sum(each.calls.likely for each in asked)
    rate = calls / seconds if seconds else 0.0
    at_work = size / WORK_BYTES + calls * CALL_SECONDS / workforce.concurrency
    if calls and busy * workforce.concurrency > rate * STAY_SECONDS:
        visits = calls / max(1.0, min(workforce.concurrency, rate * STAY_SECONDS))
        at_work += visits * VISIT_SECONDS
    else:
        at_work = max(at_work, busy * seconds)
        visits = max(0.0, at_work / workforce.seconds - 1)
    return JobShape(
        size=size,
        shards=shards,
        calls=calls,
        limited_calls=sum(each.calls.likely for each in asked if each.provider in limited),
        output_tokens=sum(each.output_tokens.likely for each in asked),
        visits=visits,
        worker_seconds=at_work,
    )


def _range(value: float, error: float, low: float = 1.0, high: float = 1.0) -> Range:
    return Range(math.floor(value * low * (1 - error)), round(value), math.ceil(value * high * (1 + error)))
