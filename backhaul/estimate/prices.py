"""What AWS charges for a job, as values: list prices without free tiers, and what a job uses of each.

`docs/cost.md` uses the same terms. Prices of models are not here, because an operator sets them with the provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

import msgspec
from msgspec import Struct

from backhaul.model.money import DOLLAR
from backhaul.model.shard import MIB


class Price(Struct, frozen=True):
    """US dollars for so many units of something, and where that is published."""

    what: str
    dollars: Decimal
    units: int
    source: str

    def cost(self, units: float) -> Fraction:
        """Return the cost of so many units in dollars."""
        return Fraction(self.dollars) * Fraction(units) / self.units


class PriceList(Struct, frozen=True):
    """The prices of one region, and the month in which they were read."""

    region: str
    read: str
    prices: dict[str, Price]


AWS = msgspec.json.decode(Path(__file__).with_name("prices.json").read_bytes(), type=PriceList)
"""`prices.json`: whoever reads the prices anew changes that file alone."""

TRANSITION = AWS.prices["transition"]
INVOCATION = AWS.prices["invocation"]
GB_SECOND = AWS.prices["gb_second"]
WRITE_UNIT = AWS.prices["write_unit"]
READ_UNIT = AWS.prices["read_unit"]
S3_WRITE = AWS.prices["s3_write"]
S3_READ = AWS.prices["s3_read"]
QUEUE_REQUEST = AWS.prices["queue_request"]
ALARM_MONTH = AWS.prices["alarm_month"]
METRIC_MONTH = AWS.prices["metric_month"]
LOG_GB = AWS.prices["log_gb"]
TRACE = AWS.prices["trace"]

WORKER_GB = 1769 / 1024
"""Memory of a worker in GB: `WHOLE_CPU` in `stacks/function.py`."""
WORK_BYTES = 4 * MIB
"""Bytes of input that a worker handles per second: `docs/cost.md` assumes two seconds for 8 MiB."""
COMMIT_BYTES = 32 * MIB
COMMIT_SECONDS = 10.0
"""Seconds between a worker's commits, as in `backhaul/worker/commit.py`; a test compares the two."""
COMMIT_UNITS = 2
"""Write units of one commit: a shard's record has about 2 KB."""
BUDGET_WRITES = 0.2
"""Writes to budgets per call, if each worker makes one call per second (decision 12)."""
TOKEN_BYTES = 4
"""Bytes that are stored per token of an answer."""
AROUND = 8
"""Function calls of a job other than workers: submit, dispatch, plan, merge and announce."""


@dataclass(frozen=True)
class AwsUse:
    """How much a job uses of each AWS service."""

    transitions: float
    invocations: float
    gb_seconds: float
    write_units: float
    read_units: float
    s3_writes: float
    s3_reads: float

    def cost(self) -> int:
        """Return its cost in nanodollars."""
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
    """What decides a job's use of AWS: its `size` in bytes, its `calls` of providers, and those that have a limit.

    `visits` is how often workers come back after they left because of a wait or the end of their time.
    `worker_seconds` is the total time of all workers.
    """

    size: int
    shards: int
    calls: float = 0
    limited_calls: float = 0
    output_tokens: float = 0
    visits: float = 0
    worker_seconds: float = 0


def aws_use(shape: JobShape) -> AwsUse:
    """Return what a job uses, on the assumption that its results are as large as its input.

    It leaves out logs, traces, events, storage, the polling of queues, retries, and vectors, which are larger than
    the text of a token.
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
