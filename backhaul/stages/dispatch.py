"""Claim an upload once, even if S3 reports it several times, and start its job's run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import msgspec

from backhaul.admission.admission import Admission
from backhaul.model import keys
from backhaul.model.clock import Clock
from backhaul.model.errors import JobNotFound, MalformedMessage
from backhaul.model.job import Job, JobRef, JobState, ObjectRef
from backhaul.store import JobStore, RunStore, SlotStore


@dataclass(frozen=True)
class Upload:
    """One object that was created as the input of a job, as an event of S3 reports it."""

    job: JobRef
    object: ObjectRef


def uploads_in(message: str) -> tuple[Upload, ...]:
    """Return the uploads that an S3 event notification names; raises `MalformedMessage`."""
    try:
        body = msgspec.json.decode(message, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"The message is not JSON: {error}.") from None
    if body.get("Event") == "s3:TestEvent":
        return ()
    try:
        records = msgspec.convert(body, _Notification).records
    except msgspec.ValidationError as error:
        raise MalformedMessage(f"The message is not an S3 event notification: {error}.") from None
    return tuple(_upload(record.s3.object) for record in records)


def dispatch(upload: Upload, *, jobs: JobStore, runs: RunStore, slots: SlotStore, clock: Clock) -> Job:
    """Pin the uploaded version to its job and start the run if there is a slot; return the job as it then stands.

    The first upload counts: a duplicate event finds it pinned and only makes sure that the run was started, and an
    overwrite is ignored. A job that gets no slot stays QUEUED: the end of another job, or the sweep, starts it, and
    its message is not needed any more. The number of calls is bounded, however many jobs wait. Raises `JobNotFound`
    for an upload that belongs to no job.
    """
    admission = Admission(jobs, runs, slots, clock)
    job = jobs.get(upload.job)
    if job.state is JobState.AWAITING_UPLOAD:
        job = admission.claim(job, upload.object)
    # Another version was pinned before this one, or the job had ended without an upload.
    if job.input != upload.object:
        return job
    problems: dict[JobRef, Exception] = {}
    if job.state is JobState.QUEUED and admission.fill_for(job.ref.tenant, job, problems):
        job = jobs.get(upload.job)
    if job.ref in problems:  # the sweep retries other jobs; only this job's fault brings its message back
        raise problems[job.ref]
    admission.start(job)
    return job


def hand_on(ended: JobRef, *, jobs: JobStore, runs: RunStore, slots: SlotStore, clock: Clock) -> int:
    """Take back the slot of a job that has ended, and start jobs that wait for it; returns how many."""
    with suppress(JobNotFound):
        if jobs.get(ended).state.is_terminal:
            slots.drop(ended)
    return Admission(jobs, runs, slots, clock).fill_for(ended.tenant)


class _Object(msgspec.Struct, frozen=True):
    key: str
    size: int
    version_id: str = msgspec.field(name="versionId")


class _S3(msgspec.Struct, frozen=True):
    object: _Object


class _Record(msgspec.Struct, frozen=True):
    s3: _S3


class _Notification(msgspec.Struct, frozen=True):
    records: list[_Record] = msgspec.field(name="Records")


def _upload(found: _Object) -> Upload:
    key = unquote_plus(found.key)
    return Upload(keys.job_of_input(key), ObjectRef(key, found.version_id, found.size))
