"""The dead letter of a chunk that could not be processed: what failed, how often, and where its input lies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from backhaul.model.job import Cause, Job, ObjectRef
from backhaul.model.progress import FailedChunk, Try
from backhaul.model.versions import VERSIONS, StoredRecord, upgraded

SCHEMA_VERSION = VERSIONS[StoredRecord.DEAD_LETTER]


@dataclass(frozen=True)
class ChunkDeadLetter:
    """A message in the queue of failed chunks; it holds a claim check for the input, never the input itself."""

    schema_version: int
    dead_letter_id: str
    """The same in every copy of a dead letter, so that a reader recognises a duplicate."""
    tenant: str
    job_id: str
    run: int
    processor: str
    shard: int
    chunk: int
    start: int
    end: int
    record: int | None
    cause: Cause
    tries: tuple[Try, ...]
    input: ObjectRef | None
    failed_at: datetime

    @classmethod
    def from_json(cls, body: str) -> ChunkDeadLetter:
        """Return the dead letter in a message's body, of this version or an earlier one; raises `UnreadableRecord`."""
        values = msgspec.json.decode(body, type=dict[str, Any])
        return msgspec.convert(upgraded(StoredRecord.DEAD_LETTER, values, "a failed chunk"), cls)

    def to_json(self) -> str:
        """Return the body of the message."""
        return msgspec.json.encode(self).decode()


def dead_letter_of(job: Job, shard: int, chunk: FailedChunk, tries: tuple[Try, ...], now: datetime) -> ChunkDeadLetter:
    """Return the dead letter of a chunk of the job's present run."""
    return ChunkDeadLetter(
        schema_version=SCHEMA_VERSION,
        dead_letter_id=f"{job.ref.job_id}.r{job.run}.c{chunk.index}",
        tenant=job.ref.tenant,
        job_id=job.ref.job_id,
        run=job.run,
        processor=job.processor,
        shard=shard,
        chunk=chunk.index,
        start=chunk.start,
        end=chunk.end,
        record=chunk.record,
        cause=chunk.cause,
        tries=tries,
        input=job.input,
        failed_at=now,
    )
