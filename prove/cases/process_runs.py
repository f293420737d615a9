"""Real runs that are cancelled, hang, or are lost."""

from __future__ import annotations

import time

from prove.deployed import eventually
from prove.registry import Trial
from prove.site import Site, real, settle
from prove.work import RECORD_BYTES, lines

STOPPED_SECONDS = 15.0
STALLED_SECONDS = 30.0


@real("F27.cancel", "A job is cancelled during its fan-out: its workers stop, what is done can be read.")
def cancel(trial: Trial, site: Site) -> None:
    long = {"chunk_bytes": 2 * RECORD_BYTES, "seconds": 0.5}
    job = site.job(lines(trial.random, 400), "slow", long)
    job.begun(trial.random.randrange(8, 40))
    site.deployed.client.cancel(job.id, "the test says so")
    cancelled = time.monotonic()
    settle(trial, job, ends="CANCELLED", seconds=60)
    last = max(each.at for each in job.begun())
    trial.expect(last - cancelled < STOPPED_SECONDS, f"workers went on for {last - cancelled:.1f} s")
    receipt = job.receipt()
    trial.expect(receipt["counts"]["chunks_done"] > 0, "nothing that was done can be read")
    trial.expect(receipt["cause"]["code"] == "cancelled", f"the cause is {receipt['cause']}")


@real(
    "F31.hung-worker", "A worker hangs: its shard shows as stalled after 30 seconds, and the job ends once it goes on."
)
def hung_worker(trial: Trial, site: Site) -> None:
    job = site.job(lines(trial.random, 24), "slow", {"chunk_bytes": 12 * RECORD_BYTES, "seconds": 0.2})
    (*_, last) = job.begun(trial.random.randrange(1, 8))
    trial.expect(site.deployed.stop(last.pid), "the worker is gone already")
    try:
        stalled = eventually(lambda: site.deployed.client.job(job.id).stalled_shards, bool, 2 * STALLED_SECONDS)
        trial.expect(stalled == 1, f"{stalled} shards are said to stall")
    finally:
        site.deployed.go_on(last.pid)
    settle(trial, job)


@real(
    "F31.lost-run",
    "A run is aborted from outside: another merges what it has done at once, and a redrive does the rest.",
)
def lost_run(trial: Trial, site: Site) -> None:
    job = site.job(lines(trial.random, 96), "slow", {"chunk_bytes": 2 * RECORD_BYTES, "seconds": 0.3})
    job.begun(trial.random.randrange(8, 24))
    machine = site.deployed.connection.outputs["StateMachineArn"]
    run = f"{machine.replace(':stateMachine:', ':execution:')}:{job.id}-1"
    site.deployed.admin("stepfunctions").stop_execution(executionArn=run, error="Operator", cause="test")
    # Workers of the lost run may commit after the merge has looked: then the receipt names more than is missing.
    settle(trial, job, ends="PARTIAL FAILED", seconds=90, but={"every missing chunk is named"})
    codes = {each["cause"]["code"] for each in job.receipt()["missing"]}
    trial.expect(codes == {"run_lost"}, f"chunks are missing for {codes}")
    site.deployed.client.redrive(job.id)
    settle(trial, job, run=2)
