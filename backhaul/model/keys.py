"""Names of everything stored: DynamoDB keys and S3 keys, all beginning with the tenant."""

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
    """Return the job to which a partition key belongs."""
    match = _PARTITION.fullmatch(key)
    if match is None:
        raise MalformedMessage(f"{key!r} is not the partition key of a job.")
    return JobRef(*match.groups())


def is_job_id(text: str) -> bool:
    """Return whether the text has the form of a job ID; what has not is no key to look up."""
    return _JOB_ID.fullmatch(text) is not None


def shard_sort_key(shard: int) -> str:
    """Return the sort key of a shard record; shards sort by number."""
    return f"{SHARD_PREFIX}{shard:06d}"


def run_sort_key(run: int) -> str:
    """Return the sort key of what came of a run that another has followed."""
    return f"{RUN_PREFIX}{run:06d}"


def step_prefix(chunk: int, scope: int) -> str:
    """Return what the sort keys of the memoised steps of a record, or of the chunk itself, begin with."""
    return f"{STEP_PREFIX}{chunk:06d}#{scope:013d}#"


def step_sort_key(chunk: int, scope: int, name: str) -> str:
    """Return the sort key of a memoised step: of the record at byte `scope`, or of the chunk itself."""
    return f"{step_prefix(chunk, scope)}{name}"


def step_key(job: JobRef, chunk: int, scope: int, digest: str) -> str:
    """Return where a large answer of a step goes."""
    return f"{job_prefix(job)}steps/{chunk:06d}.{scope}.{digest}"


def answer_partition(tenant: str, digest: str) -> str:
    """Return the DynamoDB partition key of an answer that a tenant's jobs share."""
    return f"T#{tenant}#A#{digest}"


def answer_key(tenant: str, digest: str) -> str:
    """Return where a large answer goes that a tenant's jobs share."""
    return f"t/{tenant}/answers/{digest}.json"


def job_prefix(job: JobRef) -> str:
    """Return the S3 prefix of everything that belongs to the job, with its final slash."""
    return f"t/{job.tenant}/j/{job.job_id}/"


def input_key(job: JobRef) -> str:
    """Return where the caller uploads the file; the caller's file name is no part of it."""
    return f"t/{job.tenant}/j/{job.job_id}{INPUT_SUFFIX}"


def job_of_input(key: str) -> JobRef:
    """Return the job whose input an S3 key names."""
    match = _INPUT_KEY.fullmatch(key)
    if match is None:
        raise MalformedMessage(f"{key!r} is not the key of a job's input.")
    return JobRef(*match.groups())


def plan_key(job: JobRef, run: int) -> str:
    """Return where the plan of a run is stored: JSON Lines, one shard a line."""
    return f"{job_prefix(job)}plan/r{run}.jsonl"


def results_prefix(job: JobRef) -> str:
    """Return what the keys of all of a job's results begin with."""
    return f"{job_prefix(job)}results/"


def result_key(job: JobRef, shard: int, attempt: int, part: int) -> str:
    """Return where one commit's results go; the attempt keeps a zombie's apart."""
    return f"{results_prefix(job)}{shard:06d}.a{attempt}.p{part}"


def output_key(job: JobRef, run: int, merge: str) -> str:
    """Return where one merge of a run stores the output; of two that overlap, neither replaces the other's."""
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
    """Return where one merge of a run stores the receipt."""
    return f"{job_prefix(job)}receipt/r{run}.{merge}.json"


def run_name(job: JobRef, run: int, *, salvage: bool = False) -> str:
    """Return the name of a run's execution, or of the one that merges what it left; it is always the same."""
    return f"{job.job_id}-{run}-salvage" if salvage else f"{job.job_id}-{run}"
