"""Serves the emulator, and passes on only requests that a key of this local cloud has signed.

    python -I backhaul/local/gate.py LISTENING_SOCKET

Runs on the emulator's own Python, so it imports the emulator and nothing of this package. The emulator checks no
signature of its root user, answers some paths to anybody, and derives the functions' keys from their names.
"""

import asyncio
import hashlib
import hmac
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote

from hypercorn.asyncio import serve  # type: ignore[import-not-found]
from hypercorn.config import Config  # type: ignore[import-not-found]
from ministack import app as emulator  # type: ignore[import-not-found]
from ministack.core import lambda_runtime, sigv4  # type: ignore[import-not-found]
from ministack.core.iam_evaluator import ResolvedCredential, resolve_credential  # type: ignore[import-not-found]
from ministack.services.s3 import _parse_multipart_form  # type: ignore[import-not-found]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Query = dict[str, list[str]]

ADMINISTRATION = ("/_ministack/", "/_localstack/", "/health")
CUSTOM_RESOURCE = "/_ministack/cfn-response/"
"""The path to which a custom resource's function answers; its only credential is the random token at the end."""
API = "/_aws/execute-api/"
MAX_FORM_FIELDS_BYTES = 20_000
"""The most bytes that S3 allows in a form before its file."""


class Refused(Exception):
    """The request is not signed with a key of this cloud."""


async def gate(scope: Scope, receive: Receive, send: Send) -> None:
    """Pass a request on to the emulator if its signature is valid; refuse it otherwise."""
    if scope["type"] == "lifespan":
        await emulator.app(scope, receive, send)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    elif scope["method"] == "OPTIONS" and not scope["path"].startswith(ADMINISTRATION):
        await emulator.app(scope, receive, send)  # a browser's preflight, which it never signs
    elif scope["method"] == "PUT" and scope["path"].startswith(CUSTOM_RESOURCE):
        await emulator.app(scope, receive, send)
    else:
        messages = [message async for message in _messages(receive)]
        try:
            check(scope, b"".join(message.get("body", b"") for message in messages))
        except Refused:
            await _refuse(scope["path"], send)
            return
        await emulator.app(scope, _again(messages, receive), send)


def check(scope: Scope, body: bytes) -> None:
    """Raise `Refused` unless a key of this cloud signed the request; an administrative one needs the root user's."""
    headers: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), sigv4.decode_header_value(value)
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    query = parse_qs(scope["query_string"].decode(errors="replace"), keep_blank_values=True)
    form = headers.get("content-type", "").startswith("multipart/form-data")
    if scope["method"] == "POST" and form and "authorization" not in headers and not query:
        signer = _signer_of_form(headers["content-type"], body[:MAX_FORM_FIELDS_BYTES])
    else:
        signer = _signer(scope, headers, query, body)
    if scope["path"].startswith(ADMINISTRATION) and signer.principal_type != "Root":
        raise Refused


def _signer(scope: Scope, headers: dict[str, str], query: Query, body: bytes) -> ResolvedCredential:
    presigned = "authorization" not in headers
    parsed = sigv4.parse_query_signature(query) if presigned else sigv4.parse_header_signature(headers)
    # A presigned URL names its own time of expiry, which the emulator checks.
    if isinstance(parsed, tuple) or not (presigned or sigv4.request_time_failure(parsed) is None):
        raise Refused
    token = query.get("X-Amz-Security-Token", [""])[0] if presigned else headers.get("x-amz-security-token", "")
    signer = _known(parsed.access_key_id, token)
    path = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1")
    wrong = sigv4.header_signature_failure(
        parsed, signer.secret_access_key, scope["method"], path, query, headers, body, presigned=presigned
    )
    if wrong:
        raise Refused
    return signer


def _signer_of_form(content_type: str, start: bytes) -> ResolvedCredential:
    parts = _parse_multipart_form(content_type, start)
    fields = {name.lower(): value.decode(errors="replace") for name, _file, _headers, value in parts if name != "file"}
    key, *scope = fields.get("x-amz-credential", "").split("/")
    if len(scope) != 4:
        raise Refused
    signer = _known(key, fields.get("x-amz-security-token", ""))
    day, region, service, _end = scope
    signature = sigv4.calculate_signature(signer.secret_access_key, day, region, service, fields.get("policy", ""))
    if not sigv4.signatures_match(signature, fields.get("x-amz-signature", "")):
        raise Refused
    return signer


def _known(access_key_id: str, token: str) -> ResolvedCredential:
    found = resolve_credential(access_key_id, session_token=token) if access_key_id else None
    if not isinstance(found, ResolvedCredential):
        raise Refused
    return found


async def _messages(receive: Receive) -> Any:
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        yield message


def _again(messages: list[dict[str, Any]], receive: Receive) -> Receive:
    async def receive_again() -> dict[str, Any]:
        return messages.pop(0) if messages else await receive()

    return receive_again


async def _refuse(path: str, send: Send) -> None:
    # The answer of an HTTP API; for every other service, an answer that all SDKs can read.
    kind, body = (
        (b"application/json", b'{"message":"Forbidden"}')
        if path.startswith(API)
        else (
            b"text/xml",
            b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Sign the request with a key of this local cloud."
            b"</Message></Error></ErrorResponse>",
        )
    )
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _make_functions_keys_secret(secret: bytes) -> None:
    """Make the emulator derive a function's key from this cloud's secret as well as from the function's names."""

    def keyed(data: bytes) -> Any:
        return hmac.new(secret, data, hashlib.sha256)

    lambda_runtime.hashlib = SimpleNamespace(sha256=keyed)


def _end_with_the_keeper() -> None:
    """End this process when its standard input ends: only the keeper holds that open."""
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """Serve on the socket whose number is the argument, until the keeper ends."""
    threading.Thread(target=_end_with_the_keeper, daemon=True).start()
    _make_functions_keys_secret(os.environ["AWS_SECRET_ACCESS_KEY"].encode())
    config = Config()
    config.bind = [f"fd://{sys.argv[1]}"]
    config.certfile, config.keyfile = os.environ["MINISTACK_SSL_CERT"], os.environ["MINISTACK_SSL_KEY"]
    config.keep_alive_timeout = 75
    asyncio.run(serve(gate, config))


if __name__ == "__main__":
    main()
