"""The addresses that a provider may have: public ones over https, and local ones only on a person's own machine.

The same rule checks an address twice: as it is written, when an operator sets up the provider, and as its name
resolves, when a worker calls it (`reach.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Place(StrEnum):
    """The kind of place to which an address leads."""

    PUBLIC = "public"
    NEAR = "near"
    """This machine, or the private network that it is in."""
    FORBIDDEN = "forbidden"
    """A service that gives out the machine's credentials, an address of no single host, or a local address inside an
    IPv6 one."""


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_NEAR = _networks("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
_OF_AWS = _networks("fd00:ec2::/32")
"""Services of AWS for one machine over IPv6: its credentials, DNS and time."""
_NAT64 = ip_network("64:ff9b::/96")
"""The prefix with which a network without IPv4 writes an IPv4 address, in the last 32 bits."""
_GLOBAL_UNICAST = ip_network("2000::/3")
# Tunnels and special protocols. Listed here, because `is_global` differs between versions of Python.
_NO_HOSTS = _networks("192.0.0.0/24", "2001::/23", "2002::/16", "3fff::/20")


def place_of(address: Address) -> Place:
    """Return where an address leads to; an IPv4 address inside an IPv6 one is either public or forbidden."""
    if address in _NAT64:
        inner = place_of(IPv4Address(int(address) & 0xFFFFFFFF))
        return inner if inner is Place.PUBLIC else Place.FORBIDDEN
    if _is_in(address, _OF_AWS):
        return Place.FORBIDDEN
    if _is_in(address, _NEAR):
        return Place.NEAR
    is_unicast = address in _GLOBAL_UNICAST if address.version == 6 else not address.is_multicast
    return Place.PUBLIC if is_unicast and address.is_global and not _is_in(address, _NO_HOSTS) else Place.FORBIDDEN


def problems(url: str) -> Iterator[str]:
    """Yield a sentence for each fault of a base_url that no deployment may have; no sentence repeats the base_url."""
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
    place = _place_of_host(host)
    if place is Place.FORBIDDEN:
        yield (
            "base_url must not be a link-local, metadata, unspecified, multicast, shared or reserved address, nor a "
            "number that stands for an address: no provider is there."
        )
    elif parts.scheme == "http" and place is not Place.NEAR:
        yield "base_url must begin with https; http is for loopback and private addresses only, written as numbers."


def is_near(url: str) -> bool:
    """Return whether a base_url without problems is written with a name or address of this machine or its network."""
    return bool(url) and _place_of_host(urlsplit(url).hostname or "") is Place.NEAR


def _place_of_host(host: str) -> Place | None:
    """Return where a host leads to as it is written; None for a name, which is checked when it is resolved."""
    try:
        return place_of(ip_address(host))
    except ValueError:
        pass
    labels = host.rstrip(".").split(".")
    if labels[-1] == "localhost":
        return Place.NEAR
    # Resolvers take 127.1, 0177.0.0.1, 0x7f.1 and 2130706433 for addresses. No name on the internet ends in a number.
    is_number = labels[-1].isdigit() or labels[-1].startswith("0x")
    return Place.FORBIDDEN if is_number else None


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
