"""A simulated deployment from its first call to its last: an empty moto, a world over it, and Python made virtual."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import moto.s3.models
from moto import mock_aws
from moto.core.base_backend import BackendDict
from moto.moto_api._internal import mock_random

from backhaul.model import shard as shard_module
from backhaul.paid import channels as channels_module
from backhaul.store import output as output_module
from prove.clients import clients, isolated
from prove.clock import virtual
from prove.faults import Fault
from prove.messages import sweep_every_minute
from prove.network import carried_by
from prove.threads import virtual_threads
from prove.world import BUCKET, FLOW, TABLE, World

SHARDS_PER_JOB = 3
"""So that a small job has several shards, and a shard several chunks."""


@contextmanager
def simulated(
    seed: int,
    *faults: Fault,
    stale: bool = False,
    sweeps: bool = True,
    multipart: bool = False,
    page: int = 0,
    **settings: Any,
) -> Iterator[World]:
    """Yield a new deployment over an empty moto; its actors are gone when the block is left.

    `stale`: reads may be; `sweeps`: the timer runs; `multipart`: outputs of a few bytes already take several parts;
    `page`: items that DynamoDB puts on one page.
    """
    lender = clients()
    with isolated(), empty_aws():
        mock_random.seed(seed)
        world = World(seed, stale=stale, **settings)
        lent = [lender.lend("s3"), lender.lend("dynamodb")]
        world.s3 = lent[0].client
        world.network.page = page
        create_stores(*(each.client for each in lent))
        world.inject(*faults)
        with (
            virtual(world),
            virtual_threads(world.simulation, world.simulation.random),
            carried_by(world.network),
            mock.patch.object(shard_module, "_SHARDS_PER_JOB", SHARDS_PER_JOB),
            mock.patch.object(channels_module, "open_provider", return_value=world.vendor),
            _small_parts() if multipart else nullcontext(),
        ):
            if sweeps:
                world.simulation.spawn("timer", lambda: sweep_every_minute(world))
            try:
                yield world
            finally:
                world.simulation.close()
                world.functions.close()
                for each in lent:
                    lender.take_back(each)


@contextmanager
def empty_aws() -> Iterator[None]:
    """Let moto answer for AWS, with nothing in it."""
    with mock_aws():
        BackendDict.reset()  # within another mock, such as that of all stage tests, moto keeps what it holds
        yield


@contextmanager
def _small_parts() -> Iterator[None]:
    with (
        mock.patch.object(moto.s3.models, "S3_UPLOAD_PART_MIN_SIZE", 1),
        mock.patch.object(output_module, "PART_WRITTEN", 100),
        mock.patch.object(output_module, "MIN_PART", 50),
        mock.patch.object(output_module, "COPY_GAIN", 80),
    ):
        yield


def create_stores(s3: Any, dynamodb: Any) -> None:
    """Make the bucket and the tables of an empty deployment."""
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    indexes = {
        "by-tenant": ("tenant", "job_id"),
        "due": ("open_state", "due_at"),
        "queued": ("queue", "turn"),
        "queued-by-tenant": ("tenant", "turn"),
    }
    _table(dynamodb, TABLE, indexes)
    _table(dynamodb, FLOW, {})


def _table(dynamodb: Any, name: str, indexes: dict[str, tuple[str, str]]) -> None:
    strings = {"pk", "sk", *(each for pair in indexes.values() for each in pair)}
    options: dict[str, Any] = {}
    if indexes:
        options["GlobalSecondaryIndexes"] = [
            {"IndexName": index, "KeySchema": _keys(*pair), "Projection": {"ProjectionType": "ALL"}}
            for index, pair in indexes.items()
        ]
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in sorted(strings)],
        KeySchema=_keys("pk", "sk"),
        **options,
    )


def _keys(partition: str, sort: str) -> Any:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
