"""The reasons of dead letters: one for each thing that an operator can do about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backhaul.model.dead_letter import ChunkDeadLetter
from backhaul.model.job import Job, JobRef, JobState
from backhaul.operations.contents import Content, LostBatch, Malformed, Uploads


class DeadLetterReason(StrEnum):
    """Why a message became a dead letter."""

    MALFORMED = "malformed"
    UNKNOWN_JOB = "unknown-job"
    STUCK_UPLOAD = "stuck-upload"
    POISON = "poison"
    CRASH = "crash"
    TRANSIENT = "transient"
    UNSUITABLE = "unsuitable"
    UNANNOUNCED = "unannounced"
    RESOLVED = "resolved"


MEANINGS: Mapping[DeadLetterReason, str] = {
    DeadLetterReason.MALFORMED: "the message cannot be read",
    DeadLetterReason.UNKNOWN_JOB: "the job does not exist any more",
    DeadLetterReason.STUCK_UPLOAD: "a file was uploaded, but its job was never queued",
    DeadLetterReason.POISON: "the processor fails at a record, or takes too long for it",
    DeadLetterReason.CRASH: "no worker finished the chunk: workers died, or the run was stopped",
    DeadLetterReason.TRANSIENT: "a failure that may pass, such as an API that was overloaded",
    DeadLetterReason.UNSUITABLE: "the file is not what the processor reads",
    DeadLetterReason.UNANNOUNCED: "changes of jobs that were not sent to the event bus",
    DeadLetterReason.RESOLVED: "nothing is left to do: the work was done later, or the job went on without it",
}

_BY_CODE = {
    "processor_error": DeadLetterReason.POISON,
    "record_timeout": DeadLetterReason.POISON,
    "worker_died": DeadLetterReason.CRASH,
    "not_processed": DeadLetterReason.CRASH,
    "run_lost": DeadLetterReason.CRASH,
    "transient": DeadLetterReason.TRANSIENT,
    "provider_busy": DeadLetterReason.TRANSIENT,
    "provider_down": DeadLetterReason.TRANSIENT,
    "unsuitable_input": DeadLetterReason.UNSUITABLE,
}


@dataclass(frozen=True)
class Standing:
    """The present state of a dead letter's jobs in the store."""

    jobs: Mapping[JobRef, Job] = field(default_factory=dict)
    """The jobs that exist, by tenant and ID."""
    done: frozenset[int] = frozenset()
    """The chunks of a failed chunk's job that have a result."""
    readable: bool = True
    """False if a job exists whose record this version cannot read."""


def classify(content: Content, standing: Standing) -> DeadLetterReason:
    """Return the reason of a dead letter, from its content and the present state of its jobs."""
    if isinstance(content, Malformed):
        return DeadLetterReason.MALFORMED
    if isinstance(content, LostBatch):
        return DeadLetterReason.UNANNOUNCED
    if isinstance(content, Uploads):
        return _of_uploads(content, standing)
    return _of_chunk(content, standing)


def _of_uploads(content: Uploads, standing: Standing) -> DeadLetterReason:
    jobs = [standing.jobs[upload.job] for upload in content.uploads if upload.job in standing.jobs]
    if not standing.readable or any(job.state is JobState.AWAITING_UPLOAD for job in jobs):
        return DeadLetterReason.STUCK_UPLOAD
    return DeadLetterReason.RESOLVED if len(jobs) == len(content.uploads) else DeadLetterReason.UNKNOWN_JOB


def _of_chunk(dead_letter: ChunkDeadLetter, standing: Standing) -> DeadLetterReason:
    job = standing.jobs.get(JobRef(dead_letter.tenant, dead_letter.job_id))
    if job is None and standing.readable:
        return DeadLetterReason.UNKNOWN_JOB
    redone = job is not None and job.run > dead_letter.run and job.state is JobState.SUCCEEDED
    if redone or dead_letter.chunk in standing.done:
        return DeadLetterReason.RESOLVED
    # An unknown code is the processor's own, so the processor failed: an untried chunk has a code of Backhaul's.
    return _BY_CODE.get(dead_letter.cause.code, DeadLetterReason.POISON)
