"""Runs: executions of the state machine, one for each run that a job orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backhaul import keys
from backhaul.job import Job

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


@dataclass(frozen=True)
class RunStatus:
    """What Step Functions says of a run; a run that never began has the status `ABSENT`."""

    status: str
    error: str = ""
    cause: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the run is still at work."""
        return self.status in ("RUNNING", "PENDING_REDRIVE")


class RunStore:
    """The state machine of one deployment."""

    def __init__(self, client: SFNClient, state_machine_arn: str) -> None:
        self._client = client
        self._arn = state_machine_arn

    def start(self, job: Job) -> None:
        """Start the job's current run; starting it again changes nothing."""
        order = {"tenant": job.ref.tenant, "job_id": job.ref.job_id, "run": job.run}
        try:
            self._client.start_execution(
                stateMachineArn=self._arn,
                name=keys.run_name(job.ref, job.run),
                input=msgspec.json.encode(order).decode(),
            )
        except self._client.exceptions.ExecutionAlreadyExists:
            return

    def status(self, job: Job) -> RunStatus:
        """Return what became of the job's current run."""
        name = keys.run_name(job.ref, job.run)
        arn = f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"
        try:
            found = self._client.describe_execution(executionArn=arn)
        except self._client.exceptions.ExecutionDoesNotExist:
            return RunStatus("ABSENT")
        return RunStatus(found["status"], found.get("error", ""), found.get("cause", ""))
