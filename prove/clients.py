"""AWS clients over moto: made once for the whole process, because that takes long, and lent to one user at a time."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import boto3
from botocore.retries import quota, standard

from prove.pace import set_pace

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def isolated() -> Iterator[None]:
    """Know no AWS account, region or endpoint but moto's inside the block."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with mock.patch.dict(os.environ, own | _CREDENTIALS, clear=True):
        yield


_QUOTA = 500
"""What botocore gives a client for its retries; it never holds more."""


class _Quotas:
    """Remembers the retry quota of the client that is being made, which botocore gives no way to."""

    def __init__(self) -> None:
        self.made: list[quota.RetryQuota] = []

    def RetryQuota(self, *arguments: Any, **options: Any) -> quota.RetryQuota:  # noqa: N802  # botocore's name
        made = quota.RetryQuota(*arguments, **options)
        self.made.append(made)
        return made


@dataclass(frozen=True)
class Lent:
    """A client, what it was made with, and its retry quotas."""

    made_with: tuple[str, str]
    client: Any
    quotas: list[quota.RetryQuota]


class Clients:
    """Lends clients. A client keeps nothing of its last user, except the handlers registered for its events."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[Lent]] = {}
        self._make = boto3.client
        set_pace()

    def lend(self, service: str, config: Any = None) -> Lent:
        """Return a client of this configuration with a full retry quota."""
        made_with = (service, repr(sorted(vars(config).items())) if config else "")
        idle = self._idle.setdefault(made_with, [])
        if idle:
            lent = idle.pop()
            for each in lent.quotas:
                each.release(_QUOTA)
            return lent
        watch = _Quotas()
        real, standard.quota = standard.quota, watch  # type: ignore[assignment]
        try:
            client = self._make(service, config=config)  # type: ignore[call-overload]
        finally:
            standard.quota = real
        return Lent(made_with, client, watch.made)

    def take_back(self, lent: Lent) -> None:
        """Keep a client for the next who wants one."""
        self._idle[lent.made_with].append(lent)


@functools.cache
def clients() -> Clients:
    """Return the clients of this process."""
    return Clients()
