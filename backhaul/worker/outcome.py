"""What an attempt at a shard answers: to the state machine, and to whoever counts the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backhaul.model.parking import Parking
from backhaul.model.versions import FIELD, VERSIONS, StoredRecord


@dataclass(frozen=True)
class Work:
    """What one attempt at a shard did; bytes of input."""

    processor: str
    attempt: int = 0
    is_retry: bool = False
    """Whether the attempt before this one died, or was broken off by an outage."""
    chunks: int = 0
    chunks_failed: int = 0
    records: int = 0
    bytes: int = 0
    rework: int = 0
    """Chunks that the attempt before this one had begun and not committed, as far as its last sign of life tells."""
    calls: int = 0
    """Calls of providers."""
    slept: float = 0.0
    """Seconds for which calls waited inside the function for their reservation, all threads together."""
    longest_sleep: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the state machine is to do next: an outcome is a value, exceptions are for crashes.

    `done`: nothing is left to do here. `continue`: the time ran out, call again. `wait`: call again after
    `seconds`, or with `parking` as soon as somebody wakes the shard. The state machine hands `work.attempt` to the
    next worker, who knows by it that nobody died.
    """

    outcome: Literal["done", "continue", "wait"]
    work: Work
    seconds: int = 0
    overtaken: bool = False
    """Whether another worker has the shard: the next worker leaves the shard alone while that one is alive."""
    waits_for: str = ""
    """What the shard waits for, in words."""
    parking: Parking | None = None
    """How it waits so that it can be woken, unless the wait is too short for that, or is for a store of ours."""

    def to_state(self) -> dict[str, object]:
        """Return what the state machine keeps of it, and hands to the next worker.

        Executions that began before a deployment follow their old definition: it must know each outcome.
        """
        # An execution that began before an update knows neither time-out nor provider: it waits for `seconds`.
        parking = self.parking or Parking(0)
        return {
            FIELD: VERSIONS[StoredRecord.OUTCOME],
            "outcome": self.outcome,
            "seconds": self.seconds,
            "attempt": self.work.attempt,
            "overtaken": self.overtaken,
            "timeout": parking.seconds,
            "provider": parking.provider,
            "epoch": parking.epoch,
            "settings": parking.settings,
        }
