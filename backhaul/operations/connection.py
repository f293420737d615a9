"""An operator's access to a deployment: its stack's outputs, and clients with the operator's credentials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backhaul.model.clock import Clock
from backhaul.model.errors import DeploymentUnreachable
from backhaul.model.settings import Settings
from backhaul.operations.contents import Queue
from backhaul.store import MessageQueue, Store

LOCAL_CLOUD = "The local cloud"
NO_CAP = "any"
"""The output's value if the day has no cap: an empty value would look like a missing output."""

REMEMBERED = "BackhaulSettings"
"""The name in a template's metadata under which a stack keeps the settings that it was made with."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of one stack."""

    stack: str
    values: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return an output; raises `DeploymentUnreachable` naming the one that is missing."""
        if name not in self.values:
            raise DeploymentUnreachable(
                f"{self.stack} has no output {name}. It is no Backhaul stack, or an older one: deploy it again."
            )
        return self.values[name]

    @property
    def is_local(self) -> bool:
        """Whether these are a local cloud's outputs."""
        return self.stack == LOCAL_CLOUD

    def settings(self) -> Settings:
        """Return the deployment's settings, as far as its outputs hold them."""
        return Settings(
            jobs_table=self.get("JobsTableName"),
            flow_table=self.get("FlowTableName"),
            data_bucket=self.get("DataBucketName"),
            state_machine_arn=self.get("StateMachineArn"),
            event_bus=self.get("EventBusName"),
            failed_chunks_url=self.get(Queue.FAILED_CHUNKS.kind.output),
            max_running_jobs=int(self.get("MaxRunningJobs")),
            max_running_jobs_per_tenant=int(self.get("MaxRunningJobsPerTenant")),
            max_cost_per_day=self._cap("MaxCostPerDay"),
            max_cost_per_day_per_tenant=self._cap("MaxCostPerDayPerTenant"),
        )

    def _cap(self, name: str) -> str:
        said = self.get(name)
        return "" if said == NO_CAP else said


@dataclass(frozen=True)
class Operations:
    """One deployment, with its operator's access to it."""

    outputs: Outputs
    settings: Settings
    store: Store
    clock: Clock
    who: str
    """The ARN of the caller, for the audit trail."""

    def dead_letters(self) -> dict[Queue, MessageQueue]:
        """Return the queues of dead letters."""
        return {queue: self.store.queue(self.outputs.get(queue.kind.output)) for queue in Queue}

    def intake(self) -> MessageQueue:
        """Return the queue in which uploads arrive."""
        return self.store.queue(self.outputs.get("IntakeQueueUrl"))

    def alarm_topic(self) -> str:
        """Return the ARN of the topic to which alarms are sent."""
        return self.outputs.get("AlarmTopicArn")
