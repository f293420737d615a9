"""The tokens that a call is charged with: the provider's own counts, or an estimate where they cannot be true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from backhaul.providers.calls import Request, Usage, estimate_input, estimate_output

_MAX_OVERHEAD = 4096
"""Tokens that a provider may add to a request for its template, and for its text on tools and schemas."""
_MAX_OUTPUT = 2_000_000
_INPUT = ("prompt_tokens", "input_tokens", "inputTokens")
_OUTPUT = ("completion_tokens", "output_tokens", "outputTokens")


def read_usage(said: Any, request: Request, content: Any) -> Usage:
    """Return the tokens of a call from the provider's `usage`, in one of the usual forms.

    A count that is missing or cannot be true is estimated: a request has no more tokens than bytes, apart from what
    the provider adds, and a text has at least one token.
    """
    values = said if isinstance(said, dict) else {}
    # No provider counts vectors as output tokens.
    expected = estimate_output(content)
    input_tokens = _count(values, _INPUT, 1, len(msgspec.json.encode(request)) + _MAX_OVERHEAD)
    output_tokens = _count(values, _OUTPUT, 1 if expected else 0, _MAX_OUTPUT)
    if output_tokens is None and not expected:
        output_tokens = 0
    return Usage(
        input_tokens=estimate_input(request) if input_tokens is None else input_tokens,
        output_tokens=expected if output_tokens is None else output_tokens,
        estimated=input_tokens is None or output_tokens is None,
    )


def _count(values: dict[str, Any], names: Iterable[str], least: int, most: int) -> int | None:
    found = next((values[name] for name in names if values.get(name) is not None), None)
    if not isinstance(found, int) or isinstance(found, bool):
        return None
    return found if least <= found <= most else None
