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
    from botocore.credentials import Credentials

_SIGNED = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")


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
        SigV4Auth(frozen, "execute-api", self._region).add_auth(unsigned)
        for name in _SIGNED:
            if name in unsigned.headers:
                request.headers[name] = unsigned.headers[name]
        yield request
