"""Signing requests to the HTTP API with AWS Signature Version 4."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from backhaul.model.errors import DeploymentUnreachable

if TYPE_CHECKING:
    from botocore.credentials import Credentials, ReadOnlyCredentials

_SIGNED = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")


def check_credentials(frozen: ReadOnlyCredentials) -> None:
    """Raise `DeploymentUnreachable` for credentials that cannot be sent in an HTTP header.

    The error repeats nothing of them. An HTTP client's own error would quote the session token.
    """
    given = {"access key ID": frozen.access_key, "secret access key": frozen.secret_key, "session token": frozen.token}
    for name, value in given.items():
        if value and not (value.isascii() and value.isprintable()):
            raise DeploymentUnreachable(
                f"The AWS credentials cannot be used: the {name} has a line break, or another character "
                "that is not allowed in one."
            )


class SigV4(httpx.Auth):
    """Signs each request for API Gateway with the caller's AWS credentials."""

    requires_request_body = True

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._credentials = credentials
        self._region = region

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the signature's headers to the request."""
        unsigned = AWSRequest(request.method, str(request.url), data=request.content)
        if "content-type" in request.headers:
            unsigned.headers["Content-Type"] = request.headers["content-type"]
        try:
            frozen = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            reason = str(error).rstrip(".")
            raise DeploymentUnreachable(f"The AWS credentials cannot be used: {reason}. Log in again.") from error
        check_credentials(frozen)
        SigV4Auth(frozen, "execute-api", self._region).add_auth(unsigned)
        for name in _SIGNED:
            if name in unsigned.headers:
                request.headers[name] = unsigned.headers[name]
        yield request
