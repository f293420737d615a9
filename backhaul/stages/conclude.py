"""Record why a worker or stage kept dying, which a Catch of the state machine reports, so that no job runs for ever."""

from __future__ import annotations

from backhaul.model.job import Cause, Job, JobState
from backhaul.model.outage import outages_as_unavailable
from backhaul.model.task import RunTask, ShardTask
from backhaul.store import JobStore, ShardStore


def cause_of(error: str, cause: str) -> Cause:
    """Return the cause for an error name and an explanation of Step Functions."""
    return Cause("run_failed", f"The run ended with {error or 'unknown error'}.", detail=cause or None)


@outages_as_unavailable
def conclude_shard(task: ShardTask, error: str, cause: str, *, jobs: JobStore, shards: ShardStore) -> None:
    """Record why the workers of a shard kept dying; the rest of the job goes on."""
    kind = error or "unknown error"
    message = f"Every worker on the shard died; the last one with {kind}."
    died = Cause("worker_died", message, detail=cause or None)
    shards.note_crash(task.job, task.shard, task.run, died, expires_at=jobs.get(task.job).expires_at)


@outages_as_unavailable
def conclude_run(task: RunTask, cause: Cause, *, jobs: JobStore) -> Job | None:
    """End the job as FAILED and return it; None if the job had already ended or begun another run."""
    job = jobs.get(task.job)
    if job.run != task.run or job.state.is_terminal:
        return None
    return jobs.move(job, JobState.FAILED, cause=cause)
