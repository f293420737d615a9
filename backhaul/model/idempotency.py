"""Idempotency keys: a client that lost the answer to a submission repeats it, and both requests make one job."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

from backhaul.model.errors import InvalidRequest
from backhaul.model.job import job_id_from

MAX_KEY_AGE = timedelta(hours=1)
_RANDOM_BITS = 80
"""The random bits at the end of a job ID; its first 48 bits are a time in milliseconds, as in a UUID of version 7."""


def new_key(now: datetime) -> str:
    """Return a new idempotency key: a UUID of version 7 (RFC 9562)."""
    milliseconds = int(now.astimezone(UTC).timestamp() * 1000)
    version, variant = 7 << 76, 0b10 << 62
    return str(UUID(int=milliseconds << 80 | version | secrets.randbits(12) << 64 | variant | secrets.randbits(62)))


def job_id_of(tenant: str, key: str, now: datetime) -> str:
    """Return the job ID for a tenant's key, always the same one; raises `InvalidRequest` for a wrong or old key.

    The key gives the time by which job IDs sort. A digest of tenant and key gives the rest, because a run is named
    after its job ID alone, and no tenant may choose the ID of another tenant's job.
    """
    try:
        number = UUID(key)
    except ValueError:
        number = UUID(int=0)
    if number.version != 7 or str(number) != key.lower():
        raise InvalidRequest("The idempotency key must be a UUID of version 7, with its hyphens.")
    milliseconds = number.int >> _RANDOM_BITS
    if abs(milliseconds / 1000 - now.timestamp()) > MAX_KEY_AGE.total_seconds():
        raise InvalidRequest("The idempotency key was not made within the last hour. Make a new one for a new job.")
    digest = hashlib.sha256(f"{tenant}:{number}".encode()).digest()
    return job_id_from(milliseconds, int.from_bytes(digest[: _RANDOM_BITS // 8]))
