"""The providers that a worker process has called; its knowledge of each outlives the invocation."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from backhaul.model.clock import Clock
from backhaul.model.limit import MINUTE, Rate
from backhaul.paid.breaker.breaker import Breaker
from backhaul.paid.breaker.rule import BreakerRule
from backhaul.paid.limit.limiter import Limiter
from backhaul.paid.limit.shared_clock import SKEW
from backhaul.providers import Adapter, Models, Provider, Secrets, open_provider
from backhaul.store.breakers import BreakerStore
from backhaul.store.limits import LimitStore
from backhaul.store.providers import ProviderStore

MAX_REQUESTS = 60_000
"""The requests a minute of a provider that limits tokens only: one DynamoDB item takes no more writes than that."""
MAX_FAILED = 10_000
"""How many failed calls are remembered; a processor may never repeat a call that failed."""


@dataclass
class Channel:
    """One provider as one worker process knows it; its threads and its invocations share it."""

    provider: Provider
    adapter: Adapter
    breaker: Breaker
    limiter: Limiter | None
    _answered: float = -math.inf
    """The start of the latest call that was answered, in monotonic seconds."""
    _failed: dict[str, float] = field(default_factory=dict)

    def note_answer(self, key: str, began: float) -> None:
        """Record that the call of this key was answered; it began at `began`, in monotonic seconds."""
        self._answered = max(self._answered, began)
        self._failed.pop(key, None)

    def has_failed(self, key: str) -> bool:
        """Return whether the call of this key has failed since it was last answered."""
        return key in self._failed

    def fails_alone(self, key: str, now: float) -> bool:
        """Record that the call of this key failed; return whether the call, and not the provider, is to blame.

        It is, if the same call failed before and a call that began after that failure was answered. A first failure
        proves nothing, because an outage begins with one.
        """
        failed_before = self._failed.get(key)
        if failed_before is None and len(self._failed) == MAX_FAILED:
            self._failed.clear()
        self._failed[key] = now
        return failed_before is not None and self._answered > failed_before


@dataclass
class Channels:
    """Opens a channel to a provider at its first call, and a new one when its settings have changed."""

    providers: ProviderStore
    secrets: Secrets
    models: Callable[[str, float], Models]
    limits: LimitStore
    breakers: BreakerStore
    clock: Clock
    concurrency: int = 16
    """How many calls a worker reserves at a time under a limit that has a queue."""
    local_providers: bool = False
    """Whether a provider may be on this machine or in its private network."""
    _known: dict[str, Channel] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def to(self, name: str) -> Channel:
        """Return the channel to a provider with its present settings; raises `UnknownProvider` or `InvalidProvider`."""
        provider = self.providers.get(name)
        known = self._known.get(name)
        if known is not None and known.provider == provider:
            return known
        opened = self._open(provider)  # outside of the lock: it reads the key, and no other thread waits for that
        with self._lock:
            known = self._known.get(name)
            if known is None or known.provider != provider:
                known = self._known[name] = opened
            return known

    def _open(self, provider: Provider) -> Channel:
        name = provider.name
        adapter = open_provider(
            provider, secrets=self.secrets, models=self.models, clock=self.clock, is_local=self.local_providers
        )
        rate = rate_of(provider)
        # A worker that waited outside comes back as a new one, on another machine: clocks may differ by more.
        limiter = Limiter(name, rate, self.limits, self.clock, lease=self.concurrency, near=SKEW) if rate else None
        return Channel(provider, adapter, Breaker(name, rule_of(provider), self.breakers, self.clock), limiter)


def rule_of(provider: Provider) -> BreakerRule:
    """Return when the provider's breaker opens."""
    settings = provider.breaker
    return BreakerRule(
        share=settings.share,
        calls=settings.calls,
        window_seconds=round(settings.window_seconds),
        cooldown_seconds=round(settings.cooldown_seconds),
        # A probe cut off before the provider's timeout would prove nothing, and still be paid for.
        probe_seconds=max(BreakerRule.probe_seconds, math.ceil(provider.timeout_seconds)),
    )


def rate_of(provider: Provider) -> Rate | None:
    """Return the limit of a provider; None if it has none."""
    if provider.requests_per_minute is None and provider.tokens_per_minute is None:
        return None
    requests = provider.requests_per_minute or MAX_REQUESTS
    rate = Rate(requests, provider.tokens_per_minute)
    return rate if provider.burst is None else replace(rate, burst=provider.burst * MINUTE // requests)
