"""Keys of providers, as an HTTP header can carry them."""

from __future__ import annotations

from backhaul.providers.errors import SecretUnreadable


def usable_key(what: str, text: str) -> str:
    """Return a key without the line break that came along with it; raises `SecretUnreadable` if no header takes it.

    The error says `what` the key is, and holds nothing of it. An HTTP client's own error would quote it.
    """
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise SecretUnreadable(f"{what} is empty, or has characters that no key has; store it again.")
    return key
