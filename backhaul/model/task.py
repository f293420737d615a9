"""The tasks that Step Functions hands to the stages of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from backhaul.model.errors import MalformedMessage
from backhaul.model.job import JobRef
from backhaul.model.parking import Parking
from backhaul.model.shard import Shard
from backhaul.model.versions import StoredRecord, upgraded


@dataclass(frozen=True)
class RunTask:
    """The job and the run on which a stage works."""

    job: JobRef
    run: int

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RunTask:
        """Read the state machine's input; raises `MalformedMessage`, or `UnreadableRecord` for a newer version's."""
        try:
            order = msgspec.convert(upgraded(StoredRecord.ORDER, state, "a run's order"), _Order)
        except msgspec.ValidationError as error:
            raise MalformedMessage(f"The run's input is not what dispatch writes: {error}.") from None
        return cls(JobRef(order.tenant, order.job_id), order.run)


@dataclass(frozen=True)
class ShardTask:
    """The shard of a run that a worker handles."""

    job: JobRef
    run: int
    shard: Shard
    left: int = 0
    """The last attempt that told Step Functions how it ended; 0 if none has."""
    overtaken: bool = False
    """Whether that attempt ended because another worker had taken the shard over."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ShardTask:
        """Read the input of a Map child: the run's input and one line of its plan; raises as `RunTask` does."""
        task = RunTask.from_state(state)
        try:
            found = state.get("last", {})
            named = upgraded(StoredRecord.OUTCOME, found, "a worker's outcome") if isinstance(found, Mapping) else found
            last = msgspec.convert(named, _Last)
            return cls(task.job, task.run, Shard.from_value(state.get("shard")), last.attempt, last.overtaken)
        except msgspec.ValidationError as error:
            raise MalformedMessage(f"What a worker is to do is not what the run hands on: {error}.") from None


@dataclass(frozen=True)
class ParkTask:
    """Which shard is to wait, by which token its wait can be ended, and for what it waits."""

    job: JobRef
    run: int
    shard: int
    token: str
    parking: Parking

    @classmethod
    def from_state(cls, event: Mapping[str, Any]) -> ParkTask:
        """Read a Map child's state, and the token beside it."""
        state = event.get("state", {})
        task = ShardTask.from_state(state)
        try:
            last = msgspec.convert(state.get("last", {}), _Last)
            token = msgspec.convert(event.get("token"), str)
        except msgspec.ValidationError as error:
            raise MalformedMessage(f"How a shard is to wait is not what a worker said: {error}.") from None
        parking = Parking(last.timeout, last.provider, last.epoch, last.settings)
        return cls(task.job, task.run, task.shard.index, token, parking)


class _Order(msgspec.Struct, frozen=True):
    tenant: str
    job_id: str
    run: int


class _Last(msgspec.Struct, frozen=True):
    attempt: int = 0
    overtaken: bool = False
    timeout: int = 0
    provider: str = ""
    epoch: int = 0
    settings: str = ""
