"""What the functions do: an envelope in, the real stage, an envelope out, as the files in `lambdas/` do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import msgspec

from backhaul.model.job import JobRef
from backhaul.model.task import ParkTask, RunTask, ShardTask
from backhaul.stages import wake as waking
from backhaul.stages.announce import Change, announce
from backhaul.stages.command import cancel, redrive
from backhaul.stages.conclude import cause_of, conclude_run, conclude_shard
from backhaul.stages.dispatch import dispatch, hand_on, uploads_in
from backhaul.stages.merge import merge
from backhaul.stages.park import park
from backhaul.stages.plan import plan
from backhaul.stages.process import process
from backhaul.stages.submit import Submission, submit
from backhaul.stages.sweep import mend_lost, sweep
from backhaul.store import RunStatus
from prove.functions import Invocation, stage
from prove.surroundings import Surroundings


def run_submit(invocation: Invocation, world: Surroundings) -> JobRef:
    """POST /jobs."""
    request = Submission.from_json(msgspec.json.encode(invocation.event["request"]))
    job: JobRef = stage(submit, request, invocation.event["tenant"], invocation=invocation, world=world).job.ref
    return job


def run_dispatch(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """A batch of the intake queue; each message succeeds or fails for itself."""
    if invocation.event.get("source") == "backhaul":
        ended = JobRef(invocation.event["detail"]["tenant"], invocation.event["detail"]["job_id"])
        return {"started": stage(hand_on, ended, invocation=invocation, world=world)}
    failed = []
    for message in invocation.event["messages"]:
        try:
            for upload in uploads_in(message["body"]):
                stage(dispatch, upload, invocation=invocation, world=world)
        except Exception as error:
            world.network.note(f"message {message['id']} fails: {type(error).__name__}: {error}")
            failed.append({"itemIdentifier": message["id"]})
    return {"batchItemFailures": failed}


def run_plan(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """The first state of a run."""
    return asdict(stage(plan, RunTask.from_state(invocation.event), invocation=invocation, world=world))


def run_process(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """A Map child's state."""
    outcome = stage(process, ShardTask.from_state(invocation.event), invocation=invocation, world=world)
    state: dict[str, Any] = outcome.to_state()
    return state


def run_park(invocation: Invocation, world: Surroundings) -> None:
    """A Map child's state while it waits."""
    stage(park, ParkTask.from_state(invocation.event), invocation=invocation, world=world)


def run_wake(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """A batch of both tables' streams."""
    changes = [
        waking.Change(number, {"pk": image["pk"], "sk": image["sk"]}, before, after)
        for number, before, after in invocation.event["changes"]
        for image in [after or before]
    ]
    return {"failed": stage(waking.wake, changes, invocation=invocation, world=world).unfinished}


def run_merge(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """The last state of a run."""
    return {"state": stage(merge, RunTask.from_state(invocation.event), invocation=invocation, world=world).state}


def run_conclude(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """A Catch of the state machine."""
    state = invocation.event
    error, cause = state["error"]["Error"], state["error"]["Cause"]
    if "shard" in state:
        task = ShardTask.from_state(state)
        stage(conclude_shard, task, error, cause, invocation=invocation, world=world)
        return {"outcome": "died"}
    run = RunTask.from_state(state)
    job = stage(conclude_run, run, cause_of(error, cause), invocation=invocation, world=world)
    return {} if job is None else {"state": job.state}


def run_announce(invocation: Invocation, world: Surroundings) -> dict[str, Any]:
    """A batch of the jobs table's stream."""
    changes = [Change(*each) for each in invocation.event["changes"]]
    return {"failed": stage(announce, changes, invocation=invocation, world=world)}


def run_sweep(invocation: Invocation, world: Surroundings) -> dict[str, int]:
    """The timer, or the event that a run ended badly."""
    if invocation.event.get("source") == "aws.states":
        detail = invocation.event["detail"]
        task = RunTask.from_state(msgspec.json.decode(detail["input"]))
        status = RunStatus(detail["status"], detail["error"], detail["cause"])
        mended = stage(mend_lost, task, status, invocation=invocation, world=world)
        return {mended: 1} if mended else {}
    swept = stage(sweep, invocation=invocation, world=world)
    swept.raise_problems()
    return dict(swept.mended)


def run_command(invocation: Invocation, world: Surroundings) -> Any:
    """POST /jobs/{id}/cancel and /jobs/{id}/redrive."""
    event = invocation.event
    if event["command"] == "cancel":
        return stage(cancel, event["job"], None, invocation=invocation, world=world)
    return stage(redrive, event["job"], invocation=invocation, world=world, only_failed=event.get("only_failed", False))


HANDLERS: dict[str, tuple[float, Callable[[Invocation, Surroundings], Any]]] = {
    "submit": (29.0, run_submit),
    "dispatch": (30.0, run_dispatch),
    "plan": (300.0, run_plan),
    "process": (300.0, run_process),
    "park": (30.0, run_park),
    "wake": (30.0, run_wake),
    "merge": (900.0, run_merge),
    "conclude": (30.0, run_conclude),
    "announce": (30.0, run_announce),
    "sweep": (50.0, run_sweep),
    "command": (29.0, run_command),
}
"""Function, to its time-out in seconds, as `stacks/` declares it, and its handler."""
