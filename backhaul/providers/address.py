"""Where a provider may be: anywhere over https, and in reach of the deployment only over http."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit


def problems(url: str) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a base_url; none of them repeats it."""
    if not url:
        yield "Set base_url to the API's address, such as https://api.openai.com/v1."
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    clean = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>')
    if not clean or parts.scheme not in ("https", "http") or not host:
        yield "base_url must be an address such as https://api.openai.com/v1."
        return
    if parts.username is not None or parts.password is not None:
        yield "base_url must not hold a user or password: put the key into secret."
    if parts.query or parts.fragment or "?" in url or "#" in url:
        yield 'base_url must end with its path, without "?" and "#".'
    if _is_metadata(host):
        yield "base_url must not be a link-local or unspecified address: no provider is there."
    elif parts.scheme == "http" and not _is_near(host):
        yield "base_url must begin with https; http is for loopback and private addresses only, written as numbers."


def _is_near(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_private


def _is_metadata(host: str) -> bool:
    """Return whether this is where a machine's own credentials are given out, or no address to call."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_link_local or address.is_unspecified or address.is_multicast
