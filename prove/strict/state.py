"""The strict provider's state: its settings, its limits, its outage, and everything that it has counted."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

OUTAGES = ("unavailable", "refused", "hang", "drop", "drop_paid", "malformed", "wrong_usage")
_COUNTS = ("calls", "answered", "paid", "repeated", "refused", "conflicts", "denied", "rejected", "failed", "lost")


@dataclass(frozen=True)
class Settings:
    """The provider's limits and behaviour; for a limit, 0 is none."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    burst: int = 0
    """How many requests may come at once. Default: those of a second."""
    tokens_burst: int = 0
    """How many tokens may come at once. Default: those of ten seconds."""
    latency_ms: float = 0
    jitter_ms: float = 0
    """The latency varies evenly by up to so many milliseconds in both directions."""
    retry_after: str = "seconds"
    """The form in which a 429 says when to come back: seconds, ms, date, reset (x-ratelimit-reset-* alone) or none."""
    idempotency_header: str = "Idempotency-Key"
    secret: str = ""
    """The API key that a call must send, in Authorization, api-key or x-api-key; empty: none."""
    context_tokens: int = 0
    dimensions: int = 8
    invalid_share: float = 0
    """The share (0 to 1) of structured answers that do not satisfy their schema."""
    seed: int = 0

    def changed(self, values: Mapping[str, Any]) -> Settings:
        """Return these settings with the given values; raises `ValueError` for an unknown name."""
        unknown = values.keys() - {each.name for each in fields(self)}
        if unknown:
            raise ValueError(f"There is no setting {min(unknown)!r}.")
        return replace(self, **values)


class Bucket:
    """A token bucket: it never holds less than nothing, so no call is let through in advance."""

    def __init__(self, per_minute: float, most: float, now: float) -> None:
        self.rate = per_minute / 60
        self.most = most
        self._level = most
        self._at = now

    def level(self, now: float) -> float:
        """Return how much the bucket holds now."""
        self._level = min(self.most, self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Take out an amount; the caller must know that the bucket holds it."""
        self._level -= amount

    def wait(self, amount: float, now: float) -> float:
        """Return in how many seconds the bucket will hold this amount."""
        return max(0.0, (amount - self.level(now)) / self.rate)


class Window:
    """Counts the most events within any one second."""

    def __init__(self) -> None:
        self.worst = 0
        self._times: deque[float] = deque()

    def note(self, now: float) -> None:
        """Count an event at this time."""
        self._times.append(now)
        while self._times[0] <= now - 1:
            self._times.popleft()
        self.worst = max(self.worst, len(self._times))


@dataclass(frozen=True)
class Outage:
    """An outage: its kind, its end (monotonic seconds), and the share (0 to 1) of the calls that it strikes."""

    kind: str
    until: float
    share: float = 1.0
    retry_after: float | None = None


@dataclass
class Counts:
    """The counts since the last reset."""

    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    tokens: dict[str, int] = field(default_factory=lambda: {"input": 0, "output": 0})
    by_content: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: Window = field(default_factory=Window)
    paid: Window = field(default_factory=Window)


@dataclass
class Given:
    """The answer to an idempotency key's first call; None while that call is at work."""

    content: str
    answer: bytes | None = None


class ProviderState:
    """The provider's whole state, behind one lock."""

    def __init__(self, settings: Settings) -> None:
        self.lock = threading.Lock()
        self._random = random.Random(settings.seed)
        self.keys: dict[str, Given] = {}
        self.outage: Outage | None = None
        self.counts = Counts()
        self.set(settings)

    def set(self, settings: Settings) -> None:
        """Replace the settings, and fill the buckets again."""
        now = time.monotonic()
        self.settings = settings
        per_minute, tokens = settings.requests_per_minute, settings.tokens_per_minute
        self.requests = Bucket(per_minute, settings.burst or max(1, per_minute // 60), now) if per_minute else None
        self.tokens = Bucket(tokens, settings.tokens_burst or max(1, tokens // 6), now) if tokens else None

    def called(self, content: str) -> None:
        """Count a call, before its outcome is known."""
        with self.lock:
            self.counts.totals["calls"] += 1
            self.counts.by_content.setdefault(content, {"calls": 0, "paid": 0})["calls"] += 1
            self.counts.calls.note(time.monotonic())

    def count(self, what: str) -> None:
        """Count a call's outcome, under its name in `Counts.totals`."""
        with self.lock:
            self.counts.totals[what] += 1

    def struck(self) -> Outage | None:
        """Return the outage if it strikes this call, else None."""
        with self.lock:
            if self.outage and time.monotonic() >= self.outage.until:
                self.outage = None
            hit = self.outage and self._random.random() < self.outage.share
            return self.outage if hit else None

    def admit(self, tokens: int) -> float | None:
        """Take a call and its tokens out of the buckets; or return in how many seconds they will have room."""
        with self.lock:
            now = time.monotonic()
            waits = [
                bucket.wait(amount, now)
                for bucket, amount in ((self.requests, 1), (self.tokens, tokens))
                if bucket and bucket.level(now) < amount
            ]
            if waits:
                return max(waits)
            if self.requests:
                self.requests.take(1)
            if self.tokens:
                self.tokens.take(tokens)
            return None

    def pay(self, content: str, tokens_in: int, tokens_out: int) -> None:
        """Count a paid call and its tokens."""
        with self.lock:
            self.counts.totals["paid"] += 1
            self.counts.by_content[content]["paid"] += 1
            self.counts.tokens["input"] += tokens_in
            self.counts.tokens["output"] += tokens_out
            self.counts.paid.note(time.monotonic())

    def latency(self) -> float:
        """Return the latency of the next answer, in seconds."""
        with self.lock:
            jitter = self._random.uniform(-1, 1) * self.settings.jitter_ms
        return max(0.0, self.settings.latency_ms + jitter) / 1000

    def left(self) -> dict[str, str]:
        """Return the x-ratelimit-* headers."""
        with self.lock:
            now = time.monotonic()
            headers = {}
            for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
                if bucket:
                    headers[f"x-ratelimit-limit-{name}"] = str(round(bucket.rate * 60))
                    headers[f"x-ratelimit-remaining-{name}"] = str(int(bucket.level(now)))
                    headers[f"x-ratelimit-reset-{name}"] = f"{bucket.wait(bucket.most, now) * 1000:.0f}ms"
            return headers

    def shown(self) -> dict[str, Any]:
        """Return all counts, the outage and the settings, for JSON."""
        with self.lock:
            return {
                **self.counts.totals,
                "tokens": dict(self.counts.tokens),
                "contents": len(self.counts.by_content),
                "by_content": {name: dict(each) for name, each in self.counts.by_content.items()},
                "worst_second": {"calls": self.counts.calls.worst, "paid": self.counts.paid.worst},
                "outage": self.outage.kind if self.outage and time.monotonic() < self.outage.until else None,
                "settings": asdict(self.settings),
            }
