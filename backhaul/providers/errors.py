"""What a call of a provider may raise, below the classes of `backhaul/model/errors.py`: guards tell it apart by class.

OperatorError
├── InvalidProvider        a provider's settings cannot be used
├── UnknownProvider        no provider of that name
├── ProviderConflict       somebody else changed the provider meanwhile
└── SecretUnreadable       a provider's key is not to be had
WorkError
├── Transient
│   ├── ProviderBusy       a limit of the provider's is reached
│   └── ProviderDown       the provider does not answer, or not as it should
│       └── UnreadableAnswer    it answers, but with no JSON, or without what an answer must have
└── Permanent
    ├── ProviderDenied     no call can do better until an operator mends a key, an account, a model or an address
    ├── ProviderRejected   the provider does not take a request like this
    ├── PromptTooLong      the request does not fit the model's window
    └── ModelRefused       the model, or a filter around it, will not answer this

No message holds the secret, anything of the request, or anything of the answer but its status and its error code.
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
    """The provider is not as it was when it was read: somebody else changed, added or removed it meanwhile."""

    code = "provider_conflict"


class SecretUnreadable(OperatorError):
    """A secret that a provider refers to is not there, not for us, or nothing that a header can carry."""

    code = "secret_unreadable"


class ProviderBusy(Transient):
    """A limit of the provider's is reached; `retry_after` is what it asks for in seconds, where it says."""

    code = "provider_busy"


class ProviderDown(Transient):
    """A provider did not answer, answered with a failure of its own, or not in the form that it promises.

    `may_be_paid` says whether it may have done the call, and charged for it, all the same.
    """

    code = "provider_down"

    def __init__(self, message: str = "", retry_after: float | None = None, *, may_be_paid: bool = False) -> None:
        super().__init__(message, retry_after)
        self.may_be_paid = may_be_paid


class UnreadableAnswer(ProviderDown):
    """A provider answered, and may have charged for it, but not in the form that it promises.

    Each one is a try of its record: asked again and again, it would be paid for again and again.
    """

    code = "unreadable_answer"

    def __init__(self, message: str = "") -> None:
        super().__init__(message, may_be_paid=True)


class ProviderDenied(Permanent):
    """No call of this provider can do better until an operator mends something.

    The provider does not take the key, the account has no credit, or may not use the model, or the model is gone, or
    `base_url` leads to where no provider may be.
    """

    code = "provider_denied"


class ProviderRejected(Permanent):
    """A provider does not take a request like this, or its answer to it is of no use: a parameter, a path, too much.

    `may_be_paid` says whether it may have done the call, and charged for it, all the same.
    """

    code = "provider_rejected"

    def __init__(self, message: str = "", *, may_be_paid: bool = False) -> None:
        super().__init__(message)
        self.may_be_paid = may_be_paid


class PromptTooLong(Permanent):
    """A request does not fit the model's window."""

    code = "prompt_too_long"


class ModelRefused(Permanent):
    """A model, or a filter around it, will not answer; what was paid for that is known where tokens are named."""

    code = "model_refused"

    def __init__(self, message: str = "", *, input_tokens: int = 0, output_tokens: int = 0) -> None:
        super().__init__(message)
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
