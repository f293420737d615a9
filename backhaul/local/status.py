"""The state of a local cloud."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Whether a local cloud can be used."""

    RUNNING = "running"
    STOPPED = "stopped"
    BUSY = "busy"
    DIED = "died"


_MEANING = {
    State.RUNNING: "The local cloud is running at {0.endpoint_url}.",
    State.STOPPED: "No local cloud is running. Start it with `backhaul local up`.",
    State.BUSY: "Another command is starting or stopping the local cloud. Try again when it has ended.",
    State.DIED: "The local cloud died. Read {0.log}, then start it again with `backhaul local up`.",
}


@dataclass(frozen=True)
class Status:
    """The state of a local cloud, its address if it runs, and its log."""

    state: State
    endpoint_url: str | None
    api_url: str | None
    log: str

    def __str__(self) -> str:
        return _MEANING[self.state].format(self)
