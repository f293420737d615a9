"""Providers' keys from Secrets Manager and SSM, read when a call needs them and cached for a few minutes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from backhaul.model.clock import Clock
from backhaul.model.errors import Transient
from backhaul.model.transience import is_transient
from backhaul.providers.errors import SecretUnreadable
from backhaul.providers.secret import usable_key

KEPT_SECONDS = 300.0
ANEW_SECONDS = 10.0
"""The shortest time between two reads of one secret, however many calls a provider denies."""
_MANAGER = "secretsmanager"
_PARAMETERS = "ssm"


@dataclass(frozen=True)
class _Kept:
    value: str
    at: float


class SecretStore:
    """The secrets that a deployment may read. A process has one such store, and any number of threads use it."""

    def __init__(self, client: Callable[[str], Any], clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        # A thread holds the lock while it reads a secret, so that many threads read it once.
        self._lock = threading.Lock()

    def read(self, reference: str) -> str:
        """Return the secret of `secretsmanager:<name>` or `ssm:<name>`; with `…#<key>`, one value of its JSON.

        It may be five minutes old. Raises `SecretUnreadable`, which names the reference and says what to do, and
        `Transient` if AWS does not answer.
        """
        try:
            return self._read(reference, KEPT_SECONDS)
        except Transient:
            with self._lock:
                kept = self._kept.get(reference)
                if kept is None:
                    raise
                # AWS fails, so the old value serves until the next try. If the key was replaced, the provider denies
                # it, and `read_anew` follows.
                self._kept[reference] = _Kept(kept.value, self._clock.monotonic() - KEPT_SECONDS + ANEW_SECONDS)
                return kept.value

    def read_anew(self, reference: str, old: str) -> str:
        """Read the secret again after the provider denied `old`, and return it; it may still be the same."""
        kept = self._kept.get(reference)
        if kept and kept.value != old:  # another thread has read it again already
            return kept.value
        return self._read(reference, ANEW_SECONDS)

    def _read(self, reference: str, oldest: float) -> str:
        with self._lock:
            kept = self._kept.get(reference)
            if kept and self._clock.monotonic() - kept.at < oldest:
                return kept.value
            value = _usable(reference, self._fetch(reference))
            self._kept[reference] = _Kept(value, self._clock.monotonic())
            return value

    def _fetch(self, reference: str) -> str:
        service, _, rest = reference.partition(":")
        name, _, key = rest.partition("#")
        try:
            if service == _MANAGER:
                text = self._client(_MANAGER).get_secret_value(SecretId=name).get("SecretString")
            elif service == _PARAMETERS:
                answer = self._client(_PARAMETERS).get_parameter(Name=name, WithDecryption=True)
                text = answer["Parameter"]["Value"]
            else:
                raise SecretUnreadable("A provider's secret must be secretsmanager:<name> or ssm:<name>.")
        except (ClientError, BotoCoreError) as error:
            raise _failure(reference, error) from None
        if text is None:
            raise SecretUnreadable(f"The secret {reference} is binary; store the key as text.")
        return _value_in(reference, text, key) if key else str(text)


def _failure(reference: str, error: ClientError | BotoCoreError) -> Exception:
    code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else type(error).__name__
    # An outage of AWS says nothing about the secret, so the record is tried again and no operator is called.
    if is_transient(error):
        return Transient(f"The secret {reference} cannot be read for now ({code}).")
    if code in ("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"):
        does = "does not exist in this account and region: create it, or correct the provider's secret"
    elif code in ("AccessDeniedException", "AccessDenied", "DecryptionFailure", "KMSAccessDeniedException"):
        does = "may not be read by this role: allow it to read the secret, and to decrypt with its key"
    elif code in ("InvalidRequestException", "InvalidKeyId"):
        does = "cannot be read: it is marked for deletion, or its encryption key is disabled"
    else:
        does = "cannot be read: see whether it exists, and whether this role may read it"
    return SecretUnreadable(f"The secret {reference} {does} ({code}).")


def _value_in(reference: str, text: str, key: str) -> str:
    try:
        values = json.loads(text)
    except ValueError:
        raise SecretUnreadable(f"The secret {reference} names a key, but the stored text is not JSON.") from None
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, str):
        raise SecretUnreadable(f"The secret {reference}: the stored JSON has no text under that key.")
    return value


def _usable(reference: str, text: str) -> str:
    """Return the stored text as a key; raises `SecretUnreadable` if it cannot be one."""
    key = usable_key(f"The secret {reference}", text)
    if key.startswith("{"):
        raise SecretUnreadable(f"The secret {reference} is JSON. Name the key in it: {reference}#<key>.")
    return key
