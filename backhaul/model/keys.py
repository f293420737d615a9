"""The DynamoDB keys and S3 keys of everything that belongs to a tenant; each begins with the tenant."""

from __future__ import annotations

import re

from backhaul.model.errors import MalformedMessage
from backhaul.model.job import JobRef

JOB_SORT_KEY = "JOB"
SHARD_PREFIX = "SHARD#"
RUN_PREFIX = "RUN#"
STEP_PREFIX = "STEP#"
MAX_SCOPE = 10**13 - 1
"""A scope is a byte offset of at most 13 digits."""
HIGHEST = "\U0010ffff"
"""Sorts after every character that a name may begin with."""
INPUT_PREFIX = "t/"
INPUT_SUFFIX = "/input/data"

_JOB_ID = re.compile(r"[0-9a-z]{26}")
_PARTITION = re.compile(r"T#([A-Za-z0-9]{1,64})#J#([0-9a-z]{26})")
_OUTPUT_KEY = re.compile(r"t/[A-Za-z0-9]{1,64}/j/[0-9a-z]{26}/output/.+")
_INPUT_KEY = re.compile(r"t/([A-Za-z0-9]{1,64})/j/([0-9a-z]{26})/input/data")


def partition(job: JobRef) -> str:
    """Return the DynamoDB partition key of everything that belongs to the job."""
    return f"T#{job.tenant}#J#{job.job_id}"


def job_of_partition(key: str) -> JobRef:
    """Return the job to which a partition key belongs; raises `MalformedMessage` for any other key."""
    match = _PARTITION.fullmatch(key)
    if match is None:
        raise MalformedMessage(f"{key!r} is not the partition key of a job.")
    return JobRef(*match.groups())


def is_job_id(text: str) -> bool:
    """Return whether the text has the form of a job ID; any other text must not become part of a key."""
    return _JOB_ID.fullmatch(text) is not None


def shard_sort_key(shard: int) -> str:
    """Return the sort key of a shard record; shards sort by number."""
    return f"{SHARD_PREFIX}{shard:06d}"


def run_sort_key(run: int) -> str:
    """Return the sort key of the record of an ended run, kept when a later run follows it."""
    return f"{RUN_PREFIX}{run:06d}"


def step_prefix(chunk: int, scope: int) -> str:
    """Return the prefix of the sort keys of all stored steps of the record at byte `scope`, or of the chunk itself."""
    return f"{STEP_PREFIX}{chunk:06d}#{scope:013d}#"


def step_sort_key(chunk: int, scope: int, name: str) -> str:
    """Return the sort key of a stored step of the record at byte `scope`, or of the chunk itself."""
    return f"{step_prefix(chunk, scope)}{name}"


def step_key(job: JobRef, chunk: int, scope: int, digest: str) -> str:
    """Return the S3 key of a step's answer that is too large for its item."""
    return f"{job_prefix(job)}steps/{chunk:06d}.{scope}.{digest}"


def answer_partition(tenant: str, digest: str) -> str:
    """Return the DynamoDB partition key of an answer that a tenant's jobs share."""
    return f"T#{tenant}#A#{digest}"


def answer_key(tenant: str, digest: str) -> str:
    """Return the S3 key of an answer that a tenant's jobs share and that is too large for its item."""
    return f"t/{tenant}/answers/{digest}.json"


def job_prefix(job: JobRef) -> str:
    """Return the S3 prefix of everything that belongs to the job, with its final slash."""
    return f"t/{job.tenant}/j/{job.job_id}/"


def input_key(job: JobRef) -> str:
    """Return the S3 key to which the caller uploads the file; the caller's file name is no part of it."""
    return f"t/{job.tenant}/j/{job.job_id}{INPUT_SUFFIX}"


def job_of_input(key: str) -> JobRef:
    """Return the job whose input an S3 key names; raises `MalformedMessage` for any other key."""
    match = _INPUT_KEY.fullmatch(key)
    if match is None:
        raise MalformedMessage(f"{key!r} is not the key of a job's input.")
    return JobRef(*match.groups())


def plan_key(job: JobRef, run: int) -> str:
    """Return the S3 key of a run's plan: JSON Lines, one shard a line."""
    return f"{job_prefix(job)}plan/r{run}.jsonl"


def results_prefix(job: JobRef) -> str:
    """Return the prefix of the S3 keys of all of a job's results."""
    return f"{job_prefix(job)}results/"


def result_key(job: JobRef, shard: int, attempt: int, part: int) -> str:
    """Return the S3 key of one commit's results.

    The key names the attempt, so that a superseded worker never overwrites its successor's results.
    """
    return f"{results_prefix(job)}{shard:06d}.a{attempt}.p{part}"


def output_key(job: JobRef, run: int, merge: str) -> str:
    """Return the S3 key of the output of one merge of a run.

    The key names the merge, so that of two merges at the same time neither overwrites the other's output.
    """
    return f"{job_prefix(job)}output/r{run}.{merge}"


def is_output_of(job: JobRef, key: str) -> bool:
    """Return whether an S3 key is that of an output of this job."""
    return key.startswith(f"{job_prefix(job)}output/")


def is_receipt_of(job: JobRef, key: str) -> bool:
    """Return whether an S3 key is that of a receipt of this job."""
    return key.startswith(f"{job_prefix(job)}receipt/")


def is_plan_of(job: JobRef, key: str) -> bool:
    """Return whether an S3 key is that of a plan of this job."""
    return key.startswith(f"{job_prefix(job)}plan/")


def is_output(key: str) -> bool:
    """Return whether an S3 key is that of a job's output."""
    return _OUTPUT_KEY.fullmatch(key) is not None


def receipt_key(job: JobRef, run: int, merge: str) -> str:
    """Return the S3 key of the receipt of one merge of a run."""
    return f"{job_prefix(job)}receipt/r{run}.{merge}.json"


def run_name(job: JobRef, run: int, *, salvage: bool = False) -> str:
    """Return the name of a run's execution, or with `salvage` of the one that merges what the run committed.

    The name is always the same, so that starting an execution twice starts it once.
    """
    return f"{job.job_id}-{run}-salvage" if salvage else f"{job.job_id}-{run}"
