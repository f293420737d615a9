"""When a circuit breaker opens, lets a probe through, and closes: values and pure rules, which take the time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from backhaul.model.breaker import BreakerState, Count, Phase
from backhaul.model.waits import MAX_ASKED

BUCKETS = 15
"""The number of buckets in the window of counts."""
GATHER_SECONDS = 3
"""How old the first failure must be: workers whose calls succeed need time to hear of it and report theirs."""
SKEW_SECONDS = 10
"""How far two workers' clocks may differ before two probes can happen at once."""
HELD_OPEN_SECONDS = 30
"""After how long a worker looks again at a breaker that a person opened."""
CREDENTIALS = "credentials"
FAILURES = "failures"
REFUSALS = "refusals"


@dataclass(frozen=True)
class BreakerRule:
    """When a breaker opens: at a `share` (0 to 1) of failures among at least `calls` in a window; times in seconds.

    It opens as well if the provider answered none of so many calls, whether they failed or were refused.
    """

    share: float = 0.5
    calls: int = 10
    window_seconds: int = 30
    cooldown_seconds: int = 15
    longest_cooldown_seconds: int = 1800
    """A probe wakes a shard, which is three transitions: each 300 s they would cost more in a day than all the waiting
    does. Doubled from 15 s on, a cooldown is never longer than the outage has lasted by then."""
    credentials_cooldown_seconds: int = 60
    probe_seconds: int = 60
    """How long a probe's call may take; if its holder has not reported by then, another worker takes the probe."""


class CallResult(StrEnum):
    """The result of a call, as far as it says something of the provider."""

    OK = "ok"
    """The provider answered; an answer that the caller cannot use is not the provider's failure."""
    FAILED = "failed"
    """An outage: 5xx, a timeout, a reset."""
    DENIED = "denied"
    """The key, the account, the model or the address is refused: the same call fails for every worker."""
    THROTTLED = "throttled"
    """429: the provider is up, but refuses the rate. Where it answers nothing else, it is as good as down."""
    NOT_MADE = "not made"
    """The worker did not make the call, or cut it off: it says nothing of the provider."""


@dataclass(frozen=True)
class Permit:
    """Permission for a call, given in this epoch of the breaker."""

    epoch: int


@dataclass(frozen=True)
class Probe:
    """Permission for the one call that decides whether the breaker closes; it may take `seconds`."""

    epoch: int
    seconds: float


@dataclass(frozen=True)
class OpenBreaker:
    """The refusal of a call: ask again after `seconds`, which differ from worker to worker.

    `epoch` is that of the breaker as this worker knew it, which may have changed meanwhile.
    """

    seconds: float
    reason: str
    epoch: int


@dataclass(frozen=True)
class CallReport:
    """The result of a permitted call; `asked`: for how many seconds the provider that refused it wants no other."""

    permit: Permit | Probe
    result: CallResult
    asked: float = 0.0


def bucket_of(moment: datetime, rule: BreakerRule) -> int:
    """Return the number of the bucket in which a call at this moment is counted."""
    return math.floor(moment.timestamp() * BUCKETS / rule.window_seconds)


def recent(state: BreakerState, rule: BreakerRule, now: datetime) -> dict[int, Count]:
    """Return the buckets of the window, with those of workers whose clocks are a little ahead."""
    newest = bucket_of(now + timedelta(seconds=SKEW_SECONDS), rule)
    oldest = bucket_of(now, rule) - BUCKETS
    return {bucket: count for bucket, count in state.counts.items() if oldest < bucket <= newest}


def reason_to_open(state: BreakerState, rule: BreakerRule, now: datetime) -> str | None:
    """Return why a closed breaker has to open, by the counts that workers have reported; None if it has not to.

    The whole window decides for a provider that is called rarely. The last third of it is enough for one that is called
    often, and shows an outage sooner.
    """
    window = recent(state, rule, now)
    latest = {bucket: count for bucket, count in window.items() if bucket > bucket_of(now, rule) - BUCKETS // 3}
    return next(filter(None, (_reason_in(counts, rule, now) for counts in (window, latest))), None)


def _reason_in(counts: Mapping[int, Count], rule: BreakerRule, now: datetime) -> str | None:
    total = sum(counts.values(), Count())
    fails = total.failed > 0 and total.failed >= rule.share * total.calls
    if total.calls < rule.calls or not (fails or total.unanswered == total.calls):
        return None
    first = min(bucket for bucket, count in counts.items() if count.unanswered)
    if now.timestamp() - first * rule.window_seconds / BUCKETS < GATHER_SECONDS:
        return None
    return FAILURES if fails else REFUSALS


def opened(state: BreakerState, rule: BreakerRule, now: datetime, reason: str, asked: float = 0.0) -> BreakerState:
    """Return the breaker after it opens; a failed probe doubles the cooldown until the next one.

    A provider that refused may have asked not to be called for `asked` seconds; that is the shortest cooldown then.
    """
    cooldown = rule.credentials_cooldown_seconds if reason == CREDENTIALS else rule.cooldown_seconds
    if state.state is Phase.HALF_OPEN:
        longest = max(rule.longest_cooldown_seconds, cooldown)
        cooldown = min(max(cooldown, state.cooldown_seconds * 2), longest)
    cooldown = max(cooldown, math.ceil(min(asked, MAX_ASKED)))
    after = BreakerState(state.provider, state.epoch + 1, Phase.OPEN, reason, now, cooldown_seconds=cooldown)
    return replace(after, next_probe_at=now + timedelta(seconds=cooldown))


def half_opened(state: BreakerState, rule: BreakerRule, now: datetime, owner: str) -> BreakerState:
    """Return the breaker after `owner` has taken its one probe; reason and cooldown stay as they were."""
    until = now + timedelta(seconds=rule.probe_seconds)
    after = replace(state, epoch=state.epoch + 1, state=Phase.HALF_OPEN, owner=owner, probe_until=until)
    return replace(after, since=now, next_probe_at=None, counts={})


def closed(state: BreakerState, now: datetime, reason: str) -> BreakerState:
    """Return the breaker after it closes."""
    return BreakerState(state.provider, state.epoch + 1, Phase.CLOSED, reason, now)


def after_call(state: BreakerState, report: CallReport, rule: BreakerRule, now: datetime) -> BreakerState | None:
    """Return the breaker as a call's result changes it at once; None if the result is only counted."""
    result = report.result
    # A wrong key fails for every worker, so one denial is enough.
    if result is CallResult.DENIED:
        return opened(state, rule, now, CREDENTIALS)
    if isinstance(report.permit, Permit):
        return None
    # A probe that was not made says nothing: the next one may be taken at once, and the cooldown does not double.
    if result is CallResult.NOT_MADE:
        waiting = opened(state, rule, now, state.reason or FAILURES)
        return replace(waiting, cooldown_seconds=state.cooldown_seconds, next_probe_at=now)
    # To a provider that was down, a 429 means that it is back; to one that only refused, that it refuses still.
    if result is CallResult.THROTTLED and state.reason == REFUSALS:
        return opened(state, rule, now, REFUSALS, report.asked)
    if result is CallResult.FAILED:
        return opened(state, rule, now, state.reason or FAILURES)
    return closed(state, now, "a probe went well")


def count_of(result: CallResult) -> Count:
    """Return how a call counts that was made, with this result."""
    return Count(1, failed=int(result is CallResult.FAILED), refused=int(result is CallResult.THROTTLED))


def seconds_to_probe(state: BreakerState, rule: BreakerRule, now: datetime, known: float) -> float:
    """Return in how many seconds a probe may be taken; 0 or less if it may now.

    `known` is for how many seconds the worker has known this state. A worker whose clock is slow would wait too long by
    the stored time, so it waits at most the full cooldown from when it first saw the state.
    """
    if state.is_held_open:
        return HELD_OPEN_SECONDS
    if state.state is Phase.HALF_OPEN:
        due, length = state.probe_until, float(rule.probe_seconds)
        patience = SKEW_SECONDS  # a worker whose clock is fast must not take a second probe beside the first
    else:
        due, length, patience = state.next_probe_at, float(state.cooldown_seconds), 0
    by_clock = (due - now).total_seconds() + patience if due else 0.0
    return min(by_clock, length - known)
