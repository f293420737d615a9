"""The failed tries of a chunk, and how many workers have died at it."""

from __future__ import annotations

from datetime import datetime

from backhaul.model.interruption import Interrupted, InterruptReason
from backhaul.model.job import Cause
from backhaul.model.progress import ShardRecord, Suspect, Try
from backhaul.plugin.failure import processor_cause

MAX_MESSAGE = 200
"""The most characters of a try's message; a shard's record may hold many."""


def deaths(suspect: Suspect) -> int:
    """Return how many workers died at the chunk."""
    return sum(each.code == "worker_died" for each in suspect.tries)


def cause_of(error: BaseException, record_seconds: int) -> Cause:
    """Return the cause of a chunk's failure: the processor's exception, or a record that took too long."""
    if isinstance(error, Interrupted):
        what = (
            f"took longer than its limit of {record_seconds} s"
            if error.reason is InterruptReason.TOO_SLOW
            else "took all of a worker's time"
        )
        return Cause("record_timeout", f"A record {what}.")
    return processor_cause(error)


def try_of(attempt: int, at: datetime, cause: Cause) -> Try:
    """Return the failed try of a chunk with this cause, its message cut to `MAX_MESSAGE` characters."""
    message = cause.message
    cut = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 1] + "…"
    return Try(attempt, at, cause.code, cut)


def with_try(
    shard_record: ShardRecord, chunk: int, record: int | None, cause: Cause, at: datetime, attempt: int | None = None
) -> Suspect:
    """Return the chunk's failed tries since its last progress, with one more.

    `record` is the byte offset of the record at which the try failed. The try counts for `attempt`, or for the attempt
    that holds the shard if it is None.
    """
    open_chunk, suspect = shard_record.open, shard_record.suspect
    position = open_chunk.position if open_chunk and open_chunk.index == chunk else 0
    # A chunk that was committed further since its last try is not stuck: the next record gets tries of its own.
    same = suspect and (suspect.chunk, suspect.position) == (chunk, position)
    tries = suspect.tries if suspect and same else ()
    return Suspect(chunk, record, (*tries, try_of(attempt or shard_record.attempt, at, cause)), position)
