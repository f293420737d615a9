"""Calls of providers in a trial: settings come from a file, keys from the environment, and no guard is in between."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import msgspec

from backhaul.model.errors import InvalidProcessor, InvalidRequest
from backhaul.plugin.journal import NoJournal, Step
from backhaul.providers import (
    Adapter,
    Answer,
    InvalidProvider,
    ModelRefused,
    Provider,
    Request,
    SecretUnreadable,
    Usage,
    open_provider,
    parse_provider,
)
from backhaul.providers.secret import usable_key

_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_KEY_IN_ENVIRONMENT = (
    "In a trial a provider's secret is env: and the name of the environment variable that holds its key, as in "
    "env:OPENAI_API_KEY. If what you wrote was the key, replace it at the provider."
)
_NO_BEDROCK = "A trial cannot call a provider of kind bedrock. Submit a job, or try one of kind openai."


@dataclass
class TrialCalls(NoJournal):
    """A journal that makes each call at once and only once, and adds up the cost."""

    providers: Mapping[str, Provider]
    calls: int = 0
    cost: int = 0
    """The cost of all calls in nanodollars."""
    _adapters: dict[str, Adapter] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:  # noqa: ARG002  # the protocol's
        """Return the provider's answer.

        Raises as its adapter does, and `InvalidProcessor` for a provider that was not given.
        """
        if provider not in self.providers:
            known = ", ".join(sorted(self.providers))
            raise InvalidProcessor(f"No provider {provider!r} was given for this trial. It has only {known}.")
        taken = Usage(0)
        try:
            answer = self._adapter(provider).call(request)
            taken = answer.usage
            return answer
        except ModelRefused as error:
            taken = Usage(error.input_tokens, error.output_tokens)
            raise
        finally:
            with self._lock:
                self.calls += 1
                self.cost += self.providers[provider].cost(taken)

    def _adapter(self, name: str) -> Adapter:
        with self._lock:
            if name not in self._adapters:
                self._adapters[name] = open_provider(
                    self.providers[name],
                    secrets=_Environment(),
                    models=_no_bedrock,
                    is_local=True,  # a person asks, from their own machine and with their own key
                )
            return self._adapters[name]


def read_providers(path: Path) -> dict[str, Provider]:
    """Return the providers in a JSON file, which holds one or a list of them, by name.

    Raises `InvalidProvider`, and `InvalidRequest` for a file that cannot be read.
    """
    try:
        given = msgspec.json.decode(path.read_bytes(), type=dict[str, object] | list[dict[str, object]])
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from None
    except msgspec.DecodeError as error:
        raise InvalidProvider(f"{path} is not the JSON of a provider, or of a list of them: {error}.") from None
    found = [_read(values) for values in (given if isinstance(given, list) else [given])]
    return {provider.name: provider for provider in found}


def _read(values: dict[str, object]) -> Provider:
    secret = str(values.pop("secret", "") or "")
    if secret and not _VARIABLE.fullmatch(secret):
        raise InvalidProvider(_KEY_IN_ENVIRONMENT)
    provider = parse_provider(values)
    if provider.kind == "bedrock":
        raise InvalidProvider(_NO_BEDROCK)
    # The provider is checked without its secret, because no deployment takes one of the form env:NAME.
    msgspec.structs.force_setattr(provider, "secret", secret)
    return provider


class _Environment:
    """Keys from the environment of this process."""

    def read(self, reference: str) -> str:
        """Return the variable's value; raises `SecretUnreadable` if it is not set."""
        name = reference.removeprefix("env:")
        if not os.environ.get(name):
            raise SecretUnreadable(f"The environment variable {name} is not set. Set it to the provider's key.")
        return usable_key(f"The value of the environment variable {name}", os.environ[name])

    def read_anew(self, reference: str, old: str) -> str:
        """Return the old key: an environment does not change."""
        del reference
        return old


def _no_bedrock(*_: object) -> NoReturn:
    raise InvalidProvider(_NO_BEDROCK)
