"""What a dead letter holds, read from its body: an S3 event, a failed chunk, or a lost stretch of the stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from backhaul.model import keys
from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.errors import MalformedMessage
from backhaul.model.job import JobRef
from backhaul.stages.dispatch import Upload, uploads_in
from backhaul.store.stream import Stretch


class Queue(StrEnum):
    """The queues in which messages end that nobody could handle."""

    INTAKE = "intake"
    FAILED_CHUNKS = "failed-chunks"
    ANNOUNCE = "announce"


@dataclass(frozen=True)
class Uploads:
    """An S3 event that `dispatch` could not handle."""

    uploads: tuple[Upload, ...]


@dataclass(frozen=True)
class LostBatch:
    """Changes that `announce` could not publish: where they lie in the stream, and how many they are."""

    stretch: Stretch
    size: int


@dataclass(frozen=True)
class Malformed:
    """A body nobody can understand, and why."""

    why: str


Content = Uploads | ChunkDeadLetter | LostBatch | Malformed


def read(queue: Queue, body: str) -> Content:
    """Return what the body of a message of this queue holds."""
    try:
        return _READERS[queue](body)
    except MalformedMessage as error:
        return Malformed(str(error))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        return Malformed(f"The message is not what the queue {queue} holds: {error}.")


def job_of(content: Content) -> JobRef | None:
    """Return the job that a dead letter is about; of several uploads the first one's."""
    if isinstance(content, ChunkDeadLetter):
        return JobRef(content.tenant, content.job_id)
    return content.uploads[0].job if isinstance(content, Uploads) else None


def _uploads(body: str) -> Content:
    uploads = uploads_in(body)
    if not uploads:
        raise MalformedMessage("The S3 event names no upload.")
    return Uploads(uploads)


def _failed_chunk(body: str) -> Content:
    dead_letter = msgspec.json.decode(body, type=ChunkDeadLetter)
    if dead_letter.schema_version != 1:
        raise MalformedMessage(
            f"The dead letter has version {dead_letter.schema_version}; this command reads version 1."
        )
    keys.job_of_input(keys.input_key(JobRef(dead_letter.tenant, dead_letter.job_id)))  # IDs of our form, or it raises
    return dead_letter


class _BatchInfo(msgspec.Struct, rename="camel"):
    shard_id: str
    start_sequence_number: str
    end_sequence_number: str
    batch_size: int
    stream_arn: str


class _OnFailure(msgspec.Struct):
    """Lambda's record for the on-failure destination of a DynamoDB stream."""

    batch: _BatchInfo = msgspec.field(name="DDBStreamBatchInfo")


def _lost_batch(body: str) -> Content:
    batch = msgspec.json.decode(body, type=_OnFailure).batch
    first, last = int(batch.start_sequence_number), int(batch.end_sequence_number)
    if first > last:
        raise MalformedMessage("The batch ends before it begins.")
    numbers = (batch.start_sequence_number, batch.end_sequence_number)
    return LostBatch(Stretch(batch.stream_arn, batch.shard_id, *numbers), batch.batch_size)


_READERS: Mapping[Queue, Callable[[str], Content]] = {
    Queue.INTAKE: _uploads,
    Queue.FAILED_CHUNKS: _failed_chunk,
    Queue.ANNOUNCE: _lost_batch,
}
