"""A dead letter of the failed-chunks queue: which chunk failed, why, after which attempts, and where its input lies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from backhaul.job import Cause, ObjectRef


@dataclass(frozen=True)
class Try:
    """One attempt at a chunk that failed."""

    attempt: int
    at: datetime
    code: str
    message: str


@dataclass(frozen=True)
class FailedChunkLetter:
    """What the failed-chunks queue holds for one chunk of one run; the input itself stays where it is."""

    schema_version: int
    letter_id: str
    """`<job_id>.r<run>.c<chunk>`: the same for every copy."""
    tenant: str
    job_id: str
    run: int
    processor: str
    shard: int
    chunk: int
    start: int
    end: int
    record: int | None
    """Byte offset of the first record that failed."""
    cause: Cause
    attempts: tuple[Try, ...]
    input: ObjectRef | None
    failed_at: datetime
