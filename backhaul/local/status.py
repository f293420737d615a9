"""What can be said of a local cloud."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from backhaul.local.connection import Connection


class State(StrEnum):
    """Whether a local cloud can be used."""

    RUNNING = "running"
    STOPPED = "stopped"
    BUSY = "busy"
    """Another command is starting or stopping it."""
    DIED = "died"
    """It was started and not stopped, but does not answer; starting it again clears up."""


@dataclass(frozen=True)
class Status:
    """The state of a local cloud, how to reach it if it runs, and the log to read if it died."""

    state: State
    connection: Connection | None
    log: Path
