"""Create a job and return the form with which the caller uploads its file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from backhaul.model.clock import Clock
from backhaul.model.errors import InvalidRequest, KeyReused
from backhaul.model.idempotency import job_id_of
from backhaul.model.job import UPLOAD_GRACE, Job, JobRef, JobState, new_job_id
from backhaul.model.policy import DAY_SECONDS, DEFAULT, Policy, time_for_work
from backhaul.model.settings import Settings
from backhaul.model.shard import check_size
from backhaul.plugin.options import check_extent
from backhaul.plugin.processor import Processor
from backhaul.plugin.registry import Registry
from backhaul.store import JobStore, ObjectStore, PresignedUpload
from backhaul.worker.time_limit import TimeLimit, slow_options

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FILE_NAME = 255
QUEUE_DAYS = 1
"""Days of a job's retention that are reserved for its upload and its time in the queue."""


@dataclass(frozen=True)
class Submission:
    """A caller's request for a job; size in bytes, SHA-256 in hexadecimal."""

    processor: str
    file_name: str
    size: int
    options: Mapping[str, Any] = field(default_factory=dict)
    sha256: str | None = None
    policy: Policy = DEFAULT
    key: str | None = None
    """An idempotency key: all requests of a tenant with the same key make one job."""

    @classmethod
    def from_json(cls, body: str | bytes, key: str | None = None) -> Submission:
        """Read a request body; raises `InvalidRequest` with the name of the invalid field."""
        try:
            return replace(msgspec.convert(msgspec.json.decode(body), _Body).checked(), key=key)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRequest(f"The request body is not what POST /jobs takes: {error}.") from None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    processor: str
    file_name: str
    size: int
    options: dict[str, Any] = {}
    sha256: str | None = None
    policy: Policy = DEFAULT

    def checked(self) -> Submission:
        if not 0 < len(self.file_name) <= _MAX_FILE_NAME or not self.file_name.isprintable():
            raise InvalidRequest("file_name must be 1 to 255 printable characters; it is only shown, never a path.")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise InvalidRequest("sha256 must be 64 hexadecimal digits in lower case.")
        return Submission(self.processor, self.file_name, self.size, self.options, self.sha256, self.policy)


@dataclass(frozen=True)
class Submitted:
    """A submitted job, and the form that uploads its file."""

    job: Job
    upload: PresignedUpload
    is_new: bool = True
    """Whether this request made the job; false if an earlier one with the same key did."""


def submit(
    request: Submission,
    tenant: str,
    *,
    registry: Registry,
    jobs: JobStore,
    objects: ObjectStore,
    settings: Settings,
    clock: Clock,
) -> Submitted:
    """Create the job in AWAITING_UPLOAD and return it with its form; raises a `CallerError` for an invalid request.

    A repeated request with the same idempotency key returns the job that the first one made.
    """
    processor = _checked_processor(request, registry, clock)
    check_size(request.size, settings.max_upload_bytes, processor.options.chunk_bytes)
    _check_times(request.policy, settings)
    now = clock.now()
    job = Job(
        ref=JobRef(tenant, new_job_id(now) if request.key is None else job_id_of(tenant, request.key, now)),
        state=JobState.AWAITING_UPLOAD,
        moves=0,
        processor=request.processor,
        options=msgspec.to_builtins(processor.options),
        policy=request.policy,
        file_name=request.file_name,
        declared_size=request.size,
        declared_sha256=request.sha256,
        created_at=now,
        updated_at=now,
        due_at=now + timedelta(seconds=settings.upload_window_seconds) + UPLOAD_GRACE,
        expires_at=int((now + timedelta(days=settings.retention_days)).timestamp()),
    )
    stored = jobs.create(job)
    if _asked(stored) != _asked(job):
        raise KeyReused("This idempotency key belongs to another request. Make a new key for each job.")
    upload = objects.presign_upload(stored, seconds=_seconds_to_upload(stored, now))
    return Submitted(stored, upload, is_new=stored.created_at == job.created_at)


def _asked(job: Job) -> tuple[Any, ...]:
    """Return the caller's request in a form that is equal before and after it was stored."""
    options = msgspec.json.encode(job.options, order="deterministic")
    return job.processor, options, job.policy, job.file_name, job.declared_size, job.declared_sha256


def _seconds_to_upload(job: Job, now: datetime) -> int:
    """Return the seconds for which the form is valid: no longer than the job waits for its upload."""
    if job.due_at is None or job.state is not JobState.AWAITING_UPLOAD:
        return 1  # the upload has arrived already, or its time is over
    return max(1, int((job.due_at - UPLOAD_GRACE - now).total_seconds()))


def _check_times(policy: Policy, settings: Settings) -> None:
    """Raise `InvalidRequest` for times that this deployment cannot give; defaults are accepted and shortened later."""
    work = int(time_for_work(settings.worker_seconds))
    if policy.record_seconds > max(work, DEFAULT.record_seconds):
        raise InvalidRequest(
            f"record_seconds is {policy.record_seconds}, but a worker of this deployment has {work} s for its work. "
            "Use less, or deploy with a longer worker_timeout_seconds."
        )
    days = settings.retention_days - QUEUE_DAYS
    if policy.deadline_seconds > max(days * DAY_SECONDS, DEFAULT.deadline_seconds):
        raise InvalidRequest(
            f"deadline_seconds is {policy.deadline_seconds:,}, but this deployment keeps a job for "
            f"{settings.retention_days} days, one of them for the upload and the queue. Use {days * DAY_SECONDS:,}."
        )


def _checked_processor(request: Submission, registry: Registry, clock: Clock) -> Processor:
    check_extent(request.options)
    processor = TimeLimit(clock).run(lambda: registry.create(request.processor, request.options), slow_options())
    check_extent(processor.options)  # JSON in a text has become a value
    return processor
