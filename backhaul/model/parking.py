"""A shard that waits outside of a worker, and what is needed to wake it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backhaul.model.job import JobRef

NO_BREAKER = -1
"""The epoch for a provider whose breaker is switched off: that breaker wakes nobody."""


@dataclass(frozen=True)
class Parking:
    """How long a shard is to wait at most, and how what it waits for stood when its worker left."""

    seconds: int
    provider: str = ""
    """The provider that it waits for; empty where it waits for none."""
    epoch: int = 0
    """The epoch of the provider's breaker."""
    settings: str = ""
    """The fingerprint of the provider's settings."""


@dataclass(frozen=True)
class ParkedShard:
    """A shard that waits: the token ends its wait, once."""

    job: JobRef
    run: int
    shard: int
    token: str
    until: datetime
    """When it goes on if nobody wakes it."""
    provider: str = ""
    epoch: int = 0
