"""Runs: one execution of the state machine for each run of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backhaul.model import keys
from backhaul.model.job import Cause, Job
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


_MAX_CAUSE = 1000


@dataclass(frozen=True)
class RunStatus:
    """A run's status in Step Functions; a run that never began has the status `ABSENT`."""

    status: str
    error: str = ""
    cause: str = ""

    @property
    def is_live(self) -> bool:
        """Whether the run has not ended."""
        return self.status in ("RUNNING", "PENDING_REDRIVE")


class RunStore:
    """The state machine of one deployment."""

    def __init__(self, client: SFNClient, state_machine_arn: str) -> None:
        self._client = client
        self._arn = state_machine_arn

    def start(self, job: Job, *, salvage: bool = False) -> None:
        """Start the job's current run; a repeat changes nothing.

        With `salvage`, start the execution that only merges what the lost run has committed.
        """
        order = {
            "tenant": job.ref.tenant,
            "job_id": job.ref.job_id,
            "run": job.run,
            FIELD: VERSIONS[StoredRecord.ORDER],
        }
        try:
            self._client.start_execution(
                stateMachineArn=self._arn,
                name=keys.run_name(job.ref, job.run, salvage=salvage),
                input=msgspec.json.encode(order | ({"salvage": True} if salvage else {})).decode(),
            )
        except self._client.exceptions.ExecutionAlreadyExists:
            return

    def stop(self, job: Job, cause: Cause) -> None:
        """Abort the job's current run; one that has ended stays as it is."""
        try:
            self._client.stop_execution(
                executionArn=self._execution(job), error=cause.code, cause=cause.message[:_MAX_CAUSE]
            )
        except self._client.exceptions.ExecutionDoesNotExist:
            return

    def status(self, job: Job, *, salvage: bool = False) -> RunStatus:
        """Return the status of the job's current run, or with `salvage` of the execution that salvages it."""
        try:
            found = self._client.describe_execution(executionArn=self._execution(job, salvage=salvage))
        except self._client.exceptions.ExecutionDoesNotExist:
            return RunStatus("ABSENT")
        return RunStatus(found["status"], found.get("error", ""), found.get("cause", ""))

    def _execution(self, job: Job, *, salvage: bool = False) -> str:
        name = keys.run_name(job.ref, job.run, salvage=salvage)
        return f"{self._arn.replace(':stateMachine:', ':execution:')}:{name}"
