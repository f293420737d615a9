"""Chunks that fail in every way there is, and what becomes of them once the processor is mended."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from prove.registry import Trial
from prove.site import Job, Site, real, settle

WAYS = {
    "raise": "processor_error",
    "permanent": "permanent",
    "transient": "transient",
    "later": "transient",
    "leave": "processor_error",
    "exit": "worker_died",
    "memory": "worker_died",
    "sleep": "record_timeout",
    "regex": "record_timeout",
    "disk": "processor_error",
    "object": "processor_error",
    "surrogate": "processor_error",
    "answer": "processor_error",
    "tally": "processor_error",
}
"""How a record may fail, to the cause that its chunk is to have."""
LINE_BYTES = 32


def poisoned(random: Random, records: int, ways: Mapping[int, str]) -> bytes:
    """Return an input of so many records of one size, each of them a chunk, some of them poisoned."""
    text = (
        f"{number:05d} {'poison:' + ways[number] if number in ways else 'fine'} {random.getrandbits(32):08x}"
        for number in range(records)
    )
    return b"".join(f"{line:<{LINE_BYTES - 1}}\n".encode() for line in text)


@real(
    "F37.every-way",
    "Chunks fail always, each in another way: all are quarantined, their siblings done, dead letters sent.",
)
def every_way(trial: Trial, site: Site, chosen: Sequence[str] = tuple(WAYS), siblings: int = len(WAYS)) -> None:
    records = siblings + len(chosen)
    ways = dict(zip(trial.random.sample(range(records), len(chosen)), chosen, strict=True))
    max_tries = trial.random.choice([2, 3])
    data = poisoned(trial.random, records, ways)
    job = site.job(data, "poison", {"chunk_bytes": LINE_BYTES}, {"record_seconds": 1, "max_tries": max_tries})
    settle(trial, job, ends="PARTIAL", record_bytes=LINE_BYTES)
    causes = {each["index"]: each["cause"]["code"] for each in job.receipt()["missing"]}
    wanted = {number: WAYS[way] for number, way in ways.items()}
    for number in causes.keys() | wanted.keys():
        found, due = causes.get(number), wanted.get(number)
        trial.expect(found == due, f"chunk {number} ({ways.get(number, 'fine')}) is {found}, not {due}")
    dead_letters = [each for each in site.deployed.dead_letters if each["job_id"] == job.id]
    told = {each["chunk"]: each["cause"]["code"] for each in dead_letters}
    trial.expect(told == wanted, f"the dead letters say {told}")


@real("F3.time-out", "A record is stuck in code that looks at no signal, until its function's time is over.")
def time_out(trial: Trial, site: Site) -> None:
    records = 4
    ways = {trial.random.randrange(records): "stuck"}
    data = poisoned(trial.random, records, ways)
    # Long enough that on a busy machine no other record runs out of time.
    usual = site.deployed.change("workersprocess", Timeout=8)
    try:
        job = site.job(data, "poison", {"chunk_bytes": LINE_BYTES}, {"record_seconds": 4, "max_tries": 1})
        settle(trial, job, ends="PARTIAL", record_bytes=LINE_BYTES)
    finally:
        site.deployed.change("workersprocess", **usual)
    causes = {each["index"]: each["cause"]["code"] for each in job.receipt()["missing"]}
    trial.expect(causes == dict.fromkeys(ways, "worker_died"), f"the receipt says {causes}")


@real("F23.redrive", "3 of 100 chunks are poisoned; the processor is mended, and a redrive does these 3 only.")
def redrive(trial: Trial, site: Site) -> None:
    ways = {number: trial.random.choice(["raise", "exit"]) for number in trial.random.sample(range(100), 3)}
    data = poisoned(trial.random, 100, ways)
    with tempfile.TemporaryDirectory() as folder:
        mended = Path(folder) / "mended"
        options = {"chunk_bytes": LINE_BYTES, "mended": str(mended)}
        job = site.job(data, "poison", options, {"max_tries": 1})
        settle(trial, job, ends="PARTIAL", record_bytes=LINE_BYTES)
        missing = {each["index"] for each in job.receipt()["missing"]}
        trial.expect(missing == set(ways), f"the receipt names {missing}, not {set(ways)}")
        mended.touch()
        redriven = site.deployed.client.redrive(job.id, only_failed=True)
        trial.expect(redriven.chunks == 3, f"the redrive counts {redriven.chunks} chunks")
        settle(trial, job, run=2, record_bytes=LINE_BYTES)
    planned = chunks_of_run(job, 2)
    trial.expect(planned == set(ways), f"the second run plans {planned}")


def chunks_of_run(job: Job, run: int) -> set[int]:
    """Return the chunks that a run of a job was to do, by its plan."""
    objects = job.site.deployed.final(job.id).objects
    plans = sorted((key, body) for (key, _), body in objects.items() if "/plan/" in key)
    found: set[int] = set()
    for line in plans[run - 1][1].splitlines():
        shard = json.loads(line)
        chunks = range(shard["first_chunk"], shard["first_chunk"] + len(shard["bounds"]) - 1)
        found |= set(chunks) - set(shard["skip"])
    return found
