"""Why a letter is dead: one class for each thing an operator would do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from backhaul.job import Job, JobRef, JobState
from backhaul.letter import FailedChunkLetter
from backhaul.operations.contents import Content, LostBatch, Malformed, Uploads


class Reason(StrEnum):
    """What is the matter with a letter."""

    MALFORMED = "malformed"
    UNKNOWN_JOB = "unknown-job"
    STUCK_UPLOAD = "stuck-upload"
    POISON = "poison"
    CRASH = "crash"
    TRANSIENT = "transient"
    UNSUITABLE = "unsuitable"
    UNANNOUNCED = "unannounced"
    RESOLVED = "resolved"


MEANINGS: Mapping[Reason, str] = {
    Reason.MALFORMED: "nobody can understand the message",
    Reason.UNKNOWN_JOB: "its job does not exist any more",
    Reason.STUCK_UPLOAD: "an upload that was never claimed",
    Reason.POISON: "the processor fails at a record, or takes too long for it",
    Reason.CRASH: "no worker finished the chunk: it died, or the run was stopped",
    Reason.TRANSIENT: "something outside failed for a while",
    Reason.UNSUITABLE: "the file is not what the processor reads",
    Reason.UNANNOUNCED: "changes of jobs that the event bus has not heard of",
    Reason.RESOLVED: "nothing is left to do: it has been done since, or the upload's job has gone on without it",
}

_BY_CODE = {
    "processor_error": Reason.POISON,
    "record_timeout": Reason.POISON,
    "worker_died": Reason.CRASH,
    "not_processed": Reason.CRASH,
    "run_lost": Reason.CRASH,
    "transient": Reason.TRANSIENT,
    "provider_busy": Reason.TRANSIENT,
    "provider_down": Reason.TRANSIENT,
    "unsuitable_input": Reason.UNSUITABLE,
}


@dataclass(frozen=True)
class Standing:
    """What the store says of the jobs that a letter is about."""

    jobs: Mapping[JobRef, Job] = field(default_factory=dict)
    """Those that exist."""
    done: frozenset[int] = frozenset()
    """The chunks of a failed chunk's job that have a result."""
    readable: bool = True
    """False if a job exists whose record this version cannot read."""


def classify(content: Content, standing: Standing) -> Reason:
    """Return why a letter is dead, from what it holds and from how its job stands."""
    if isinstance(content, Malformed):
        return Reason.MALFORMED
    if isinstance(content, LostBatch):
        return Reason.UNANNOUNCED
    if isinstance(content, Uploads):
        return _of_uploads(content, standing)
    return _of_chunk(content, standing)


def _of_uploads(content: Uploads, standing: Standing) -> Reason:
    jobs = [standing.jobs[upload.job] for upload in content.uploads if upload.job in standing.jobs]
    if not standing.readable or any(job.state is JobState.AWAITING_UPLOAD for job in jobs):
        return Reason.STUCK_UPLOAD
    return Reason.RESOLVED if len(jobs) == len(content.uploads) else Reason.UNKNOWN_JOB


def _of_chunk(letter: FailedChunkLetter, standing: Standing) -> Reason:
    job = standing.jobs.get(JobRef(letter.tenant, letter.job_id))
    if job is None and standing.readable:
        return Reason.UNKNOWN_JOB
    redone = job is not None and job.run > letter.run and job.state is JobState.SUCCEEDED
    if redone or letter.chunk in standing.done:
        return Reason.RESOLVED
    # A code of its own is the processor's doing: what was never tried has one of ours.
    return _BY_CODE.get(letter.cause.code, Reason.POISON)
