"""Calls of models of Amazon Bedrock; failures of AWS become errors of `backhaul.providers.errors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)

from backhaul.model.clock import Clock
from backhaul.model.errors import WorkError
from backhaul.providers.errors import ProviderDenied, ProviderDown, ProviderRejected
from backhaul.providers.failures import aws_failure

T = TypeVar("T")

_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError)


class ModelStore:
    """Calls the models of one region; a call is never repeated. `client` is boto3's client of `bedrock-runtime`."""

    def __init__(self, client: Any, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    def converse(self, provider: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer of Converse; raises the errors of `backhaul.providers.errors`."""
        answer: dict[str, Any] = self._told(provider, lambda: self._client.converse(**request))
        return answer

    def invoke(self, provider: str, model: str, body: bytes) -> tuple[bytes, Mapping[str, str]]:
        """Return the answer of InvokeModel and its headers with names in lower case; raises like `converse`."""

        def ask() -> tuple[bytes, Mapping[str, str]]:
            answer = self._client.invoke_model(
                modelId=model, body=body, contentType="application/json", accept="application/json"
            )
            # The body is read inside this block, because the connection may break while it is read.
            return answer["body"].read(), answer["ResponseMetadata"]["HTTPHeaders"]

        return self._told(provider, ask)

    def _told(self, provider: str, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (ClientError, BotoCoreError) as error:
            # No cause is kept: botocore's message quotes parts of a request that it finds invalid.
            raise self._failure(provider, error) from None

    def _failure(self, provider: str, error: ClientError | BotoCoreError) -> WorkError:
        if isinstance(error, ClientError):
            said, answer = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            return aws_failure(
                provider,
                said.get("Code", ""),
                said.get("Message", ""),
                answer.get("HTTPStatusCode", 0),
                answer.get("HTTPHeaders", {}),
                self._clock.now(),
            )
        if isinstance(error, _NO_CREDENTIALS):
            return ProviderDenied(f"{provider}: there are no AWS credentials for calls of Bedrock.")
        if isinstance(error, NoRegionError):
            return ProviderRejected(f"{provider}: no AWS region is known. Set the provider's field region.")
        if isinstance(error, ParamValidationError):
            return ProviderRejected(f"{provider}: Bedrock does not take a request of this form.")
        unsent = isinstance(error, EndpointConnectionError | ConnectTimeoutError)
        return ProviderDown(f"{provider} gave no complete answer: {type(error).__name__}.", may_be_paid=not unsent)
