"""Errors of calls of a provider, below the classes of `backhaul/model/errors.py`; guards decide by their class.

OperatorError
├── InvalidProvider        a provider's settings cannot be used
├── UnknownProvider        no provider of that name
├── ProviderConflict       another operator changed the provider meanwhile
└── SecretUnreadable       a provider's key cannot be read
WorkError
├── Transient
│   ├── ProviderBusy       a limit of the provider is reached
│   └── ProviderDown       the provider does not answer, or not as it should
│       └── UnreadableAnswer    it answers, but not with JSON, or without a required field
└── Permanent
    ├── ProviderDenied     every call fails until an operator mends a key, an account, a model or an address
    ├── ProviderRejected   the provider does not accept this request
    ├── PromptTooLong      the request does not fit the model's window
    └── ModelRefused       the model, or a filter around it, refuses to answer

No message holds the secret or any part of the request. Of the answer a message holds only the status and error code.
"""

from __future__ import annotations

from backhaul.model.errors import OperatorError, Permanent, Transient


class InvalidProvider(OperatorError):
    """A provider's settings are missing, unknown or out of range."""

    code = "invalid_provider"


class UnknownProvider(OperatorError):
    """No provider of this name is configured."""

    code = "unknown_provider"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no provider {name!r}. `backhaul providers list` shows which there are.")


class ProviderConflict(OperatorError):
    """Another operator changed, added or removed the provider after this one had read it."""

    code = "provider_conflict"


class SecretUnreadable(OperatorError):
    """A provider's secret does not exist, may not be read by this role, or cannot be sent in a header."""

    code = "secret_unreadable"


class ProviderBusy(Transient):
    """A limit of the provider is reached; `retry_after` is the wait in seconds that it asks for, or None."""

    code = "provider_busy"


class ProviderDown(Transient):
    """A provider did not answer, failed itself, or answered in another form than it promises.

    `may_be_paid` says whether it may have done the call and charged for it nevertheless.
    """

    code = "provider_down"

    def __init__(self, message: str = "", retry_after: float | None = None, *, may_be_paid: bool = False) -> None:
        super().__init__(message, retry_after)
        self.may_be_paid = may_be_paid


class UnreadableAnswer(ProviderDown):
    """A provider answered, and may have charged for it, but in another form than it promises.

    Each such answer counts as a try of its record, because each further call may be charged too.
    """

    code = "unreadable_answer"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, may_be_paid=True)


class ProviderDenied(Permanent):
    """Every call of this provider fails until an operator mends something.

    The provider does not accept the key, the account has no credit or may not use the model, the model is gone, or
    `base_url` leads to a forbidden address.
    """

    code = "provider_denied"


class ProviderRejected(Permanent):
    """A provider does not accept this request, because of a parameter, a path or its size, or its answer is of no use.

    `may_be_paid` says whether it may have done the call and charged for it nevertheless.
    """

    code = "provider_rejected"

    def __init__(self, message: str = "", *, may_be_paid: bool = False) -> None:
        super().__init__(message)
        self.may_be_paid = may_be_paid


class PromptTooLong(Permanent):
    """A request does not fit the model's window."""

    code = "prompt_too_long"


class ModelRefused(Permanent):
    """A model, or a filter around it, refuses to answer; the tokens that it charged are given if it named them."""

    code = "model_refused"

    def __init__(self, message: str = "", *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        super().__init__(message)
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
