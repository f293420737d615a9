"""The planned shards of a job, and those with missing chunks, which are all that a redrive has to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import msgspec

from backhaul.model import keys
from backhaul.model.errors import ForeignObject
from backhaul.model.job import Job
from backhaul.model.progress import ShardRecord
from backhaul.model.shard import Shard
from backhaul.store import ObjectStore, ShardStore


def planned_shards(job: Job, objects: ObjectStore) -> list[Shard]:
    """Return all shards of the job as its first run planned them; none if the job was never planned."""
    if job.plan is None:
        return []
    if not keys.is_plan_of(job.ref, job.plan.key):
        raise ForeignObject(job.ref.job_id, job.plan.key)
    return [Shard.from_value(msgspec.json.decode(line)) for line in objects.lines(job.plan)]


def missing_shards(job: Job, *, only_failed: bool, shards: ShardStore, objects: ObjectStore) -> list[Shard]:
    """Read the job's plan and shard records, and return what a new run would have to do, as `to_redo` does."""
    plan = planned_shards(job, objects)
    records = {record.index: record for record in shards.all(job.ref)} if plan else {}
    return to_redo(plan, records, only_failed=only_failed)


def to_redo(plan: Iterable[Shard], records: Mapping[int, ShardRecord], *, only_failed: bool) -> list[Shard]:
    """Return the shards with missing chunks; in each, every other chunk is marked to be skipped.

    With `only_failed`, chunks that were never tried are skipped as well.
    """
    found = []
    for shard in plan:
        record = records.get(shard.index, ShardRecord(shard.index))
        failed = {chunk.index for chunk in record.failed}
        missing = {chunk.index for chunk in shard.chunks} - record.done()
        wanted = missing & failed if only_failed else missing
        if wanted:
            found.append(replace(shard, skip=frozenset(chunk.index for chunk in shard.chunks) - wanted))
    return found
