"""What AWS charges for a job, as values: list prices of us-east-1 without free tiers, and what a job uses of each.

`docs/cost.md` is written in these terms. Models have no prices here: an operator configures them with the provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil

from backhaul.model.money import DOLLAR
from backhaul.model.shard import MIB


@dataclass(frozen=True)
class Price:
    """US dollars for so many units, where that is published, and in which month it was read there."""

    dollars: Decimal
    units: int
    source: str
    read: str

    def cost(self, units: float) -> Fraction:
        """Return what so many units cost, in dollars."""
        return Fraction(self.dollars) * Fraction(units) / self.units


_MILLION = 10**6

TRANSITION = Price(Decimal("25"), _MILLION, "https://aws.amazon.com/step-functions/pricing/", "2026-11")
"""A state transition of Step Functions Standard; a Distributed Map charges one more for each child."""
INVOCATION = Price(Decimal("0.20"), _MILLION, "https://aws.amazon.com/lambda/pricing/", "2026-11")
GB_SECOND = Price(Decimal("13.3334"), _MILLION, "https://aws.amazon.com/lambda/pricing/", "2026-11")
"""Lambda on arm64, below 7.5 billion a month."""
WRITE_UNIT = Price(Decimal("0.625"), _MILLION, "https://aws.amazon.com/dynamodb/pricing/on-demand/", "2026-11")
"""A write of 1 KB to DynamoDB on demand; one whose condition fails is charged too."""
READ_UNIT = Price(Decimal("0.125"), _MILLION, "https://aws.amazon.com/dynamodb/pricing/on-demand/", "2026-11")
"""A consistent read of 4 KB."""
S3_WRITE = Price(Decimal("0.005"), 1000, "https://aws.amazon.com/s3/pricing/", "2026-11")
"""PUT, COPY, POST or LIST; each part of a multipart upload is one."""
S3_READ = Price(Decimal("0.0004"), 1000, "https://aws.amazon.com/s3/pricing/", "2026-11")
"""GET or HEAD."""
QUEUE_REQUEST = Price(Decimal("0.40"), _MILLION, "https://aws.amazon.com/sqs/pricing/", "2026-11")
"""A request to a standard queue, answered with a message or without."""
ALARM_MONTH = Price(Decimal("0.10"), 1, "https://aws.amazon.com/cloudwatch/pricing/", "2026-11")
"""An alarm of standard resolution on one metric."""
METRIC_MONTH = Price(Decimal("0.30"), 1, "https://aws.amazon.com/cloudwatch/pricing/", "2026-11")
"""A metric of ours, below ten thousand of them; by the hour in which it is written."""
LOG_GB = Price(Decimal("0.50"), 1, "https://aws.amazon.com/cloudwatch/pricing/", "2026-11")
"""A gigabyte written to CloudWatch Logs."""
TRACE = Price(Decimal("5.00"), _MILLION, "https://aws.amazon.com/xray/pricing/", "2026-11")
"""A trace that X-Ray records."""

WORKER_GB = 1769 / 1024
"""Memory of a worker: `WHOLE_CPU` in `stacks/function.py`."""
WORK_BYTES = 4 * MIB
"""Bytes of input that a worker handles in a second: `docs/cost.md` takes two seconds for 8 MiB."""
COMMIT_BYTES = 32 * MIB
COMMIT_SECONDS = 10.0
"""When a worker commits: as in `backhaul/worker/commit.py`, which a test compares."""
COMMIT_UNITS = 2
"""Write units of a commit: a shard's record has about 2 KB."""
BUDGET_WRITES = 0.2
"""Writes to budgets for each call, at a call a second in each worker (decision 12)."""
TOKEN_BYTES = 4
"""Bytes of an answer that are stored for each token of it."""
AROUND = 8
"""Invocations of a job that are no worker's: submit, dispatch, plan, merge, and what announces it."""


@dataclass(frozen=True)
class AwsUse:
    """What a job uses of AWS."""

    transitions: float
    invocations: float
    gb_seconds: float
    write_units: float
    read_units: float
    s3_writes: float
    s3_reads: float

    def cost(self) -> int:
        """Return what it costs, in nanodollars."""
        parts = (
            TRANSITION.cost(self.transitions),
            INVOCATION.cost(self.invocations),
            GB_SECOND.cost(self.gb_seconds),
            WRITE_UNIT.cost(self.write_units),
            READ_UNIT.cost(self.read_units),
            S3_WRITE.cost(self.s3_writes),
            S3_READ.cost(self.s3_reads),
        )
        return ceil(sum(parts, Fraction(0)) * DOLLAR)


@dataclass(frozen=True)
class JobShape:
    """What decides how much of AWS a job uses: `size` in bytes; `calls` of providers, of which some are under a limit.

    `visits` is how often workers come back after they have left, because they waited or their time was up, and
    `worker_seconds` for how long they are there in all.
    """

    size: int
    shards: int
    calls: float = 0
    limited_calls: float = 0
    output_tokens: float = 0
    visits: float = 0
    worker_seconds: float = 0


def aws_use(shape: JobShape) -> AwsUse:
    """Return what a job uses whose results are as large as its input.

    Left out: logs, traces, events, storage, the queue's polling, retries, and vectors, which take more than a token.
    """
    commits = max(shape.size / COMMIT_BYTES, shape.worker_seconds / COMMIT_SECONDS, shape.shards) + shape.visits
    parts = max(shape.size / COMMIT_BYTES, shape.shards)
    answers = shape.calls + shape.output_tokens * TOKEN_BYTES / 1024
    return AwsUse(
        transitions=6 + 4 * shape.shards + 3 * shape.visits,
        invocations=AROUND + shape.shards + shape.visits,
        gb_seconds=shape.worker_seconds * WORKER_GB,
        write_units=shape.shards
        + COMMIT_UNITS * commits
        + answers
        + shape.limited_calls
        + BUDGET_WRITES * shape.calls
        + 2 * AROUND,
        read_units=(shape.worker_seconds / 2 if shape.calls else 0) + 2 * (shape.shards + shape.visits) + 2 * AROUND,
        s3_writes=AROUND + 2 * parts + shape.visits,
        s3_reads=shape.shards + shape.visits + parts,
    )
