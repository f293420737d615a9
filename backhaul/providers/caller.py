"""Calls of one provider over HTTP: its key, its headers, and its failures as our errors."""

from __future__ import annotations

from typing import Any, Protocol

from backhaul.model.clock import Clock
from backhaul.providers.calls import RateLimits
from backhaul.providers.connection import open_pool, post
from backhaul.providers.errors import ProviderDenied
from backhaul.providers.failures import http_failure
from backhaul.providers.limits import read_limits
from backhaul.providers.provider import Provider
from backhaul.providers.secret import usable_key

_MAX_KEY = 255
_MIN_SECONDS = 0.05


class Secrets(Protocol):
    """A store of keys, such as `backhaul.store.secrets.SecretStore`."""

    def read(self, reference: str) -> str:
        """Return the secret, which may be a few minutes old."""

    def read_anew(self, reference: str, old: str) -> str:
        """Read the secret again after the provider denied `old`, and return it; it may still be the same."""


class HttpCaller:
    """Posts JSON to one provider; any number of threads may use it."""

    def __init__(self, provider: Provider, secrets: Secrets, clock: Clock, *, is_local: bool = False) -> None:
        self.provider = provider
        self._secrets = secrets
        self._clock = clock
        self._is_local = is_local
        # The pool is made here, because making it at the time reserved for the first call would delay that call.
        open_pool(is_local)
        self._secret()

    def post(self, path: str, body: Any, key: str | None, timeout: float | None) -> tuple[Any, RateLimits | None]:
        """Return the answer's parsed JSON, and the limits from its headers.

        Raises the errors of `backhaul.providers.errors`. If the provider denies the key, the secret is read again, and
        the call is repeated once if the secret has changed.
        """
        secret = self._secret()
        try:
            return self._post(path, body, self._headers(secret, key), timeout)
        except ProviderDenied:
            renewed = self._secrets.read_anew(self.provider.secret, secret) if secret else ""
            if renewed == secret:
                raise
        return self._post(path, body, self._headers(renewed, key), timeout)

    def _secret(self) -> str:
        return self._secrets.read(self.provider.secret) if self.provider.secret else ""

    def _post(
        self, path: str, body: Any, headers: dict[str, str], timeout: float | None
    ) -> tuple[Any, RateLimits | None]:
        provider, longest = self.provider, self.provider.timeout_seconds
        url = provider.base_url.rstrip("/") + path
        seconds = longest if timeout is None else min(longest, max(timeout, _MIN_SECONDS))
        reply = post(provider.name, url, body, headers, seconds, is_local=self._is_local)
        if not 200 <= reply.status < 300:
            raise http_failure(provider.name, reply.status, reply.headers, reply.body, self._clock.now())
        return reply.json(provider.name), read_limits(reply.headers, self._clock.now())

    def _headers(self, secret: str, key: str | None) -> dict[str, str]:
        headers = {}
        if secret:
            secret = usable_key(f"The secret of {self.provider.name}", secret)
            name = self.provider.secret_header
            headers[name] = f"Bearer {secret}" if name.lower() == "authorization" else secret
        if key is not None and self.provider.idempotency_header:
            headers[self.provider.idempotency_header] = _checked(key)
        return headers


def _checked(key: str) -> str:
    if not 1 <= len(key) <= _MAX_KEY or not key.isascii() or not key.isprintable():
        raise ValueError(f"An idempotency key is 1 to {_MAX_KEY} printable ASCII characters, such as a hash.")
    return key
