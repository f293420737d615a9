"""Redrives of what a run left: a chunk that failed, and after it one that is done in part, or nothing else."""

from __future__ import annotations

import json
from typing import Any

from backhaul import Context
from backhaul.model.job import JobRef
from prove.clock import running
from prove.faults import Fault, Kind, at
from prove.registry import Trial, case
from prove.work import RECORD_BYTES, Mark, lines
from prove.world import World

SHARDS = 3
SLOW_SECONDS = 4.0
"""What a record takes longer in the first run, so that the cancel finds the second chunk in its middle."""


def _reconciler(bad: set[str]) -> type[Mark]:
    class Mending(Mark):
        """A processor that is slow, and fails at the bad records, as long as there are any."""

        name = "mending"

        def process(self, record: str, ctx: Context) -> str:
            made = super().process(record, ctx)
            if bad:
                running().simulation.sleep(SLOW_SECONDS)
            if record[:12] in bad:
                raise ValueError("this record cannot be worked on yet")
            return made

    return Mending


def _record(world: World, job: JobRef, shard: int) -> dict[str, Any]:
    key = (world.settings.jobs_table, f"T#{job.tenant}#J#{job.job_id}", f"SHARD#{shard:06d}")
    return world.tables.read(key) or {}


def _leave_open(trial: Trial, world: World, records: int) -> tuple[JobRef, dict[str, Any], int]:
    """Cancel a job in the second chunk of a shard whose first has failed; return that shard's record and number."""
    shard = trial.random.randrange(SHARDS)
    bad = {f"record {2 * shard * records + trial.random.randrange(records):05d}"}
    world.processors["mending"] = _reconciler(bad)
    job = world.submit(
        lines(trial.random, 2 * SHARDS * records),
        processor="mending",
        options={"chunk_bytes": records * RECORD_BYTES},
    )
    second = f"record {(2 * shard + 1) * records:05d}"
    world.simulation.run(lambda: any(work.record == second for work in world.history.work), longest=600)
    world.simulation.run(lambda: False, longest=world.simulation.time + trial.random.uniform(6.1, 12.0))
    world.act("command", {"command": "cancel", "job": job})
    trial.expect(world.run(), "the cancelled job does not settle")
    bad.clear()
    left = _record(world, job, shard)
    trial.expect(left.get("open", {}).get("index") == 2 * shard + 1, f"the second chunk is not open: {left}")
    trial.expect([each["index"] for each in left["failed"]] == [2 * shard], f"the first has not failed: {left}")
    return job, left, shard


def _redrive(trial: Trial, world: World, job: JobRef) -> list[int]:
    """Redrive the job and return the numbers of the records that were done then."""
    before = len(world.history.work)
    asked = world.act("command", {"command": "redrive", "job": job})
    world.simulation.run(lambda: asked.ended, longest=world.simulation.time + 60)
    trial.expect(world.run(), "the redriven job does not settle")
    return [int(work.record.split()[1]) for work in world.history.work[before:]]


@case("F23.open", "A redrive finds a failed chunk before one that is done in part, and goes on with that where it was.")
def open_chunk(trial: Trial) -> None:
    records = 4  # few enough for the failed chunk to be done again within one commit
    with trial.world() as world:
        job, left, shard = _leave_open(trial, world, records)
        done = _redrive(trial, world, job)
        trial.check(world, job, rework_records=None)  # but see below
        own = [number for number in done if number // (2 * records) == shard]
        wanted = [*range(2 * shard * records, (2 * shard + 1) * records)]
        wanted += range(left["open"]["position"] // RECORD_BYTES, 2 * (shard + 1) * records)
        trial.expect(own == wanted, f"records {own} were done, and not {wanted}")


@case("F23.open-again", "The same with workers that die: neither chunk is lost or doubled, whichever was begun anew.")
def open_chunk_and_deaths(trial: Trial) -> None:
    records = trial.random.choice((4, 12))
    with trial.world() as world:
        job, _, shard = _leave_open(trial, world, records)
        steps = ("claim", "commit", "put results", None)
        deaths: tuple[Kind, Kind] = ("kill before", "kill after")
        faults = [
            Fault(trial.random.choice(deaths), at("process", trial.random.choice(steps), shard)) for _ in range(2)
        ]
        world.inject(*faults)
        done = _redrive(trial, world, job)
        trial.expect(all(fault.struck for fault in faults), "no worker died")
        trial.check(world, job, rework_records=None)
        trial.expect(
            {*range(2 * shard * records, (2 * shard + 1) * records)} <= {*done}, "the failed chunk was left out"
        )


@case(
    "F23.dead-letters",
    "A redrive's workers die before they come to the failed chunk: it has a dead letter of that run too.",
)
def dead_letters_again(trial: Trial) -> None:
    records = 4
    shard = trial.random.randrange(SHARDS)
    bad = {f"record {shard * records + trial.random.randrange(records):05d}"}
    with trial.world() as world:
        world.functions.noticed_late = 0.0
        world.processors["mending"] = _reconciler(bad)
        data, options = lines(trial.random, SHARDS * records), {"chunk_bytes": records * RECORD_BYTES}
        job = world.submit(data, processor="mending", options=options)
        trial.expect(world.run(), "the job does not settle")
        trial.check(world, job, ends="PARTIAL")
        world.inject(
            Fault("kill before", at("process", "claim", shard), times=6),
            Fault("kill after", at("merge"), skip=trial.random.randrange(4)),
        )
        done = _redrive(trial, world, job)
        trial.check(world, job, ends="PARTIAL")
        trial.expect(not done, f"records {done} were done")
        causes = {
            dead_letter["run"]: dead_letter["cause"]["code"] for dead_letter in map(json.loads, world.dead_letters)
        }
        wanted = {1: "processor_error", 2: "worker_died"}
        trial.expect(causes == wanted, f"the dead letters say {causes}, and not {wanted}")
