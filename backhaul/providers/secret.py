"""The check that a provider's key can be sent in an HTTP header."""

from __future__ import annotations

from backhaul.providers.errors import SecretUnreadable


def usable_key(what: str, text: str) -> str:
    """Return a key without a line break at its end; raises `SecretUnreadable` if a header cannot hold it.

    The error names the key by `what` and quotes nothing of it. An HTTP client's own error would quote it.
    """
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise SecretUnreadable(f"{what} is empty, or has characters that a key cannot have. Store the key again.")
    return key
