"""Paid APIs: their settings, requests, answers and failures, and the adapters that call them.

`open_provider(provider, ...).call(Chat(...))` makes one call: no limit, no breaker, no budget and no second try.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from backhaul.model.clock import Clock, SystemClock
from backhaul.providers.bedrock import BedrockAdapter, Models
from backhaul.providers.caller import HttpCaller, Secrets
from backhaul.providers.calls import (
    Answer,
    Chat,
    Embed,
    Message,
    RateLimits,
    Raw,
    Request,
    Usage,
    estimate_input,
    max_estimate,
)
from backhaul.providers.errors import (
    InvalidProvider,
    ModelRefused,
    PromptTooLong,
    ProviderBusy,
    ProviderConflict,
    ProviderDenied,
    ProviderDown,
    ProviderRejected,
    SecretUnreadable,
    UnknownProvider,
    UnreadableAnswer,
)
from backhaul.providers.http import HttpAdapter
from backhaul.providers.openai import OpenAIAdapter
from backhaul.providers.provider import Breaker, Provider, parse_provider
from backhaul.providers.tokens import estimate_tokens

__all__ = [
    "Adapter",
    "Answer",
    "Breaker",
    "Chat",
    "Embed",
    "InvalidProvider",
    "Message",
    "ModelRefused",
    "Models",
    "PromptTooLong",
    "Provider",
    "ProviderBusy",
    "ProviderConflict",
    "ProviderDenied",
    "ProviderDown",
    "ProviderRejected",
    "RateLimits",
    "Raw",
    "Request",
    "SecretUnreadable",
    "Secrets",
    "UnknownProvider",
    "UnreadableAnswer",
    "Usage",
    "estimate_input",
    "estimate_tokens",
    "max_estimate",
    "open_provider",
    "parse_provider",
]


class Adapter(Protocol):
    """Calls one model of one provider; many threads may use it."""

    max_texts: int
    """How many texts one `Embed` may hold; 0 if the adapter gives no vectors."""

    def call(self, request: Request, *, key: str | None = None, timeout: float | None = None) -> Answer:
        """Make one call and return its answer; raises the errors of `backhaul.providers.errors`.

        `key` is the idempotency key, which is sent if the provider has a header for it. `timeout`, in seconds, may
        shorten the provider's own.
        """


def open_provider(
    provider: Provider,
    *,
    secrets: Secrets,
    models: Callable[[str, float], Models],
    clock: Clock | None = None,
    is_local: bool = False,
) -> Adapter:
    """Return the adapter that calls the provider.

    `models` makes the client of Bedrock for a region and a time limit in seconds. `is_local` says whether the provider
    may be on this machine or in its private network.
    """
    if provider.kind == "bedrock":
        return BedrockAdapter(provider, models(provider.region, provider.timeout_seconds))
    caller = HttpCaller(provider, secrets, clock or SystemClock(), is_local=is_local)
    return OpenAIAdapter(caller) if provider.kind == "openai" else HttpAdapter(caller)
