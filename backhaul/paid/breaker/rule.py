"""When a circuit breaker opens, lets one call through, and closes: values and rules, of which none looks at a clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from backhaul.model.breaker import BreakerState, Count, Phase

BUCKETS = 15
"""Into how many pieces the window of counts is cut."""
GATHER_SECONDS = 3
"""How old the first failure must be: those whose calls go well need a second to hear of it, and to report them."""
SKEW_SECONDS = 10
"""By how much two workers' clocks may differ before there can be two probes."""
HELD_SECONDS = 30
"""When to look again at a breaker that a person opened."""
CREDENTIALS = "credentials"
FAILURES = "failures"


@dataclass(frozen=True)
class BreakerRule:
    """When a breaker opens: at a share of failures among at least so many calls in a window; times are in seconds."""

    share: float = 0.5
    calls: int = 10
    window_seconds: int = 30
    cooldown_seconds: int = 15
    longest_cooldown_seconds: int = 1800
    """A probe wakes a shard, which is three transitions: each 300 s they would cost more in a day than all the waiting
    does. Doubled from 15 s on, a cooldown is never longer than the outage has lasted by then."""
    credentials_cooldown_seconds: int = 60
    probe_seconds: int = 60
    """How long a probe's call may take; another worker replaces a holder who has not reported by then."""
    throttled_is_failed: bool = False


class CallResult(StrEnum):
    """What became of a call, as far as it says something of the provider."""

    OK = "ok"
    """It answered; that an answer is of no use is not the provider's failure."""
    FAILED = "failed"
    """An outage: 5xx, a timeout, a reset."""
    DENIED = "denied"
    """401 or 403: nobody's calls will do better."""
    THROTTLED = "throttled"
    """429: the provider is there."""
    NOT_MADE = "not made"
    """The call was not made, or we cut it off: it says nothing."""


@dataclass(frozen=True)
class Permit:
    """Permission for a call."""

    epoch: int


@dataclass(frozen=True)
class Probe:
    """Permission for the one call that decides whether the breaker closes: it may take so many seconds."""

    epoch: int
    seconds: float


@dataclass(frozen=True)
class OpenBreaker:
    """No call now: come back after so many seconds, which differ from one worker to the other."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class CallReport:
    """What became of the call that was permitted."""

    permit: Permit | Probe
    result: CallResult


def bucket_of(moment: datetime, rule: BreakerRule) -> int:
    """Return the bucket of time in which a call is counted."""
    return math.floor(moment.timestamp() * BUCKETS / rule.window_seconds)


def recent(state: BreakerState, rule: BreakerRule, now: datetime) -> dict[int, Count]:
    """Return the buckets of the window; those of clocks that are a little ahead belong to it."""
    newest = bucket_of(now + timedelta(seconds=SKEW_SECONDS), rule)
    oldest = bucket_of(now, rule) - BUCKETS
    return {bucket: count for bucket, count in state.counts.items() if oldest < bucket <= newest}


def should_open(state: BreakerState, rule: BreakerRule, now: datetime) -> bool:
    """Return whether a closed breaker is to open, by what workers have reported.

    The whole window tells for a provider that is asked rarely, its last third soon enough for one that is asked often.
    """
    window = recent(state, rule, now)
    latest = {bucket: count for bucket, count in window.items() if bucket > bucket_of(now, rule) - BUCKETS // 3}
    return any(_shows_failures(counts, rule, now) for counts in (window, latest))


def _shows_failures(counts: Mapping[int, Count], rule: BreakerRule, now: datetime) -> bool:
    total = sum(counts.values(), Count())
    if total.calls < rule.calls or not total.failed or total.failed < rule.share * total.calls:
        return False
    first = min(bucket for bucket, count in counts.items() if count.failed)
    return now.timestamp() - first * rule.window_seconds / BUCKETS >= GATHER_SECONDS


def opened(state: BreakerState, rule: BreakerRule, now: datetime, reason: str) -> BreakerState:
    """Return the breaker after it opens; a probe that failed doubles the time until the next."""
    cooldown = rule.credentials_cooldown_seconds if reason == CREDENTIALS else rule.cooldown_seconds
    if state.state is Phase.HALF_OPEN:
        longest = max(rule.longest_cooldown_seconds, cooldown)
        cooldown = min(max(cooldown, state.cooldown_seconds * 2), longest)
    after = BreakerState(state.provider, state.epoch + 1, Phase.OPEN, reason, now, cooldown_seconds=cooldown)
    return replace(after, next_probe_at=now + timedelta(seconds=cooldown))


def half_opened(state: BreakerState, rule: BreakerRule, now: datetime, owner: str) -> BreakerState:
    """Return the breaker with its one probe in the hands of this owner, and its history as it was."""
    until = now + timedelta(seconds=rule.probe_seconds)
    after = replace(state, epoch=state.epoch + 1, state=Phase.HALF_OPEN, owner=owner, probe_until=until)
    return replace(after, since=now, next_probe_at=None, counts={})


def closed(state: BreakerState, now: datetime, reason: str) -> BreakerState:
    """Return the breaker after it closes."""
    return BreakerState(state.provider, state.epoch + 1, Phase.CLOSED, reason, now)


def after_call(
    state: BreakerState, permit: Permit | Probe, result: CallResult, rule: BreakerRule, now: datetime
) -> BreakerState | None:
    """Return the breaker as a call changes it at once; none if the call is one to count."""
    if result is CallResult.DENIED:
        return opened(state, rule, now, CREDENTIALS)
    if isinstance(permit, Permit):
        return None
    if result is CallResult.NOT_MADE:
        waiting = opened(state, rule, now, state.reason or FAILURES)
        return replace(waiting, cooldown_seconds=state.cooldown_seconds, next_probe_at=now)
    if has_failed(result, rule):
        return opened(state, rule, now, state.reason or FAILURES)
    return closed(state, now, "a probe went well")


def has_failed(result: CallResult, rule: BreakerRule) -> bool:
    """Return whether a call counts as the provider's failure."""
    return result is CallResult.FAILED or (result is CallResult.THROTTLED and rule.throttled_is_failed)


def seconds_to_probe(state: BreakerState, rule: BreakerRule, now: datetime, known: float) -> float:
    """Return how long until a probe may be taken: 0 or less if now; `known` is for how long the worker has known it.

    What the worker has measured itself holds whatever its clock says, and so does the whole time from when it saw it.
    """
    if state.is_held_open:
        return HELD_SECONDS
    if state.state is Phase.HALF_OPEN:
        due, length = state.probe_until, float(rule.probe_seconds)
        patience = SKEW_SECONDS
    else:
        due, length, patience = state.next_probe_at, float(state.cooldown_seconds), 0
    by_clock = (due - now).total_seconds() + patience if due else 0.0
    return min(by_clock, length - known)
