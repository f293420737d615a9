"""The content of a dead letter, read from its body: an S3 event, a failed chunk, or a lost stretch of the stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from backhaul.model import keys
from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.errors import MalformedMessage, UnreadableRecord
from backhaul.model.job import JobRef
from backhaul.stages.dispatch import Upload, uploads_in
from backhaul.store.stream import Stretch


@dataclass(frozen=True)
class Uploads:
    """An S3 event that `dispatch` could not handle."""

    uploads: tuple[Upload, ...]


@dataclass(frozen=True)
class LostBatch:
    """Changes that `announce` could not publish: their place in the stream, and their number."""

    stretch: Stretch
    size: int


@dataclass(frozen=True)
class Malformed:
    """A body that cannot be read, and why."""

    why: str


Content = Uploads | ChunkDeadLetter | LostBatch | Malformed


def job_of(content: Content) -> JobRef | None:
    """Return the job of a dead letter, or None; if it holds several uploads, the job of the first."""
    if isinstance(content, ChunkDeadLetter):
        return JobRef(content.tenant, content.job_id)
    return content.uploads[0].job if isinstance(content, Uploads) else None


def _uploads(body: str) -> Content:
    uploads = uploads_in(body)
    if not uploads:
        raise MalformedMessage("The S3 event names no upload.")
    return Uploads(uploads)


def _failed_chunk(body: str) -> Content:
    dead_letter = ChunkDeadLetter.from_json(body)
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


@dataclass(frozen=True)
class QueueKind:
    """The properties in which queues of dead letters differ."""

    holds: str
    """The queue's messages in words, for an alarm's text: `which holds …`."""
    output: str
    """The name of the stack's output that holds the queue's URL."""
    foreseen: str
    """A sentence that says what a redrive of one of the queue's messages will do."""
    parse: Callable[[str], Content]
    """Reads a message's body; raises `MalformedMessage`, or one of the errors that `read` knows."""


class Queue(StrEnum):
    """The queues of dead letters: messages that no stage could handle.

    A new queue is an entry here. Its resource, its alarms, its output and the operators' rights to it in the stack, the
    choices of `backhaul dlq` and the doctor's check follow. Whoever sends to it takes it from `stacks/dead_letters.py`.
    A new kind of message also needs its reason in `reasons.py` and its redrive in `redriving.py`.
    """

    kind: QueueKind

    def __new__(cls, name: str, kind: QueueKind) -> Queue:
        """Make a member whose value is only the name, with its kind beside it."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.kind = kind
        return member

    INTAKE = (
        "intake",
        QueueKind(
            holds="uploads that could not be dispatched",
            output="IntakeDeadLettersUrl",
            foreseen="Sent to the intake queue again.",
            parse=_uploads,
        ),
    )
    FAILED_CHUNKS = (
        "failed-chunks",
        QueueKind(
            holds="chunks that could not be processed",
            output="FailedChunksUrl",
            foreseen="A new run of the job processes the missing chunks.",
            parse=_failed_chunk,
        ),
    )
    ANNOUNCE = (
        "announce",
        QueueKind(
            holds="changes of jobs that were not sent to the event bus",
            output="AnnounceDeadLettersUrl",
            foreseen="The changes are announced again.",
            parse=_lost_batch,
        ),
    )


def read(queue: Queue, body: str) -> Content:
    """Return the content of a message body of this queue; `Malformed` if it cannot be read."""
    try:
        return queue.kind.parse(body)
    except (MalformedMessage, UnreadableRecord) as error:
        return Malformed(str(error))
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        return Malformed(f"The message is not what the queue {queue} holds: {error}.")
