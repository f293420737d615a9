"""Answers of the HTTP API: frozen values as JSON, and errors that say what the caller can do."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

from backhaul.model.api import ErrorBody
from backhaul.model.errors import CallerError, InvalidRequest
from backhaul.model.tenant import tenant_of
from lambdas.runtime import logger

MAX_BODY_BYTES = 2 * 1024**2
"""Bytes of the largest body that any route takes: a sample of 256 KiB with every character escaped, and options."""


def answer(status: int, value: Any) -> Response[str]:
    """Return an answer with the value as JSON."""
    return Response(status, "application/json", msgspec.json.encode(value).decode())


def resolver() -> APIGatewayHttpResolver:
    """Return a router whose errors are JSON with a stable code and a sentence."""
    app = APIGatewayHttpResolver()

    @app.exception_handler(CallerError)  # type: ignore[untyped-decorator]
    def refuse(error: CallerError) -> Response[str]:
        return answer(error.status, {"error": ErrorBody(error.code, str(error))})

    @app.exception_handler(Exception)  # type: ignore[untyped-decorator]
    def fail(error: Exception) -> Response[str]:
        logger.exception("request failed", exc_info=error)
        message = "The deployment failed at this request, and has logged the error. Try again."
        return answer(500, {"error": ErrorBody("internal", message)})

    @app.not_found
    def no_route(_: NotFoundError) -> Response[str]:
        return answer(404, {"error": ErrorBody("no_such_route", "There is no such route; see docs/api.md.")})

    return app


def body_of(app: APIGatewayHttpResolver) -> str | bytes:
    """Return the present request's body, empty if it has none; raises `InvalidRequest` if it is too large."""
    event = app.current_event
    body = event.body or ""
    if len(body) > MAX_BODY_BYTES:  # a decoded body takes many times its size in memory
        raise InvalidRequest(f"The request body has {len(body):,} bytes; {MAX_BODY_BYTES:,} at most are allowed.")
    return b64decode(body) if event.is_base64_encoded else body


def caller(app: APIGatewayHttpResolver) -> str:
    """Return the tenant that signed the present request."""
    identity: Mapping[str, Any] = app.current_event.request_context.authorizer.raw_event.get("iam") or {}
    tenant = tenant_of(identity)
    logger.append_keys(tenant=tenant)
    return tenant


def whole_number(text: str | None, name: str, default: int) -> int:
    """Return a query parameter as a number; raises `InvalidRequest` if it is none."""
    if text is None:
        return default
    if len(text) > 9 or not text.isascii() or not text.isdigit():
        raise InvalidRequest(f"{name} must be a whole number.")
    return int(text)
