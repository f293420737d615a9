"""Where a processor's steps and checkpoints go: memory in a trial, the store in a worker."""

from __future__ import annotations

from typing import Any, Protocol

from backhaul.model.errors import InvalidProcessor
from backhaul.providers.calls import Answer, Request, Usage

Step = tuple[int, str]
"""Which step of a chunk: the byte offset of its record (the chunk's start for `process_chunk`), and its name."""


class Journal(Protocol):
    """Keeps what a chunk's processing must not do twice."""

    @property
    def state(self) -> Any:
        """What the processor's last checkpoint kept; None before the first."""

    def recall(self, step: Step) -> bytes | None:
        """Return the stored answer of a step, as JSON, or None if it was never answered."""

    def keep(self, step: Step, answer: bytes) -> bytes:
        """Store a step's answer before anybody uses it; returns the one that counts."""

    def ask(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:
        """Return what a provider answers, or has answered to this step before."""

    def checkpoint(self, state: Any, position: int | None = None, records: int = 1) -> None:
        """Take note that all before this point may be kept; may end the attempt here.

        `position` is the byte offset up to which records are done, where others after it have been given out too, and
        `records` how many have ended with it.
        """

    def waits_for(self, start: int) -> None:
        """Take note that the record at this byte offset is the first that is not done."""

    def for_thread(self) -> Journal:
        """Return the journal for a record that another thread works on: for its steps only."""


class NoJournal:
    """Keeps nothing: in a trial nothing is ever repeated."""

    state: Any = None

    def recall(self, step: Step) -> bytes | None:  # noqa: ARG002  # the protocol's
        """Return None: nothing was answered before."""
        return None

    def keep(self, step: Step, answer: bytes) -> bytes:  # noqa: ARG002  # the protocol's
        """Return the answer."""
        return answer

    def ask(self, step: Step, provider: str, request: Request, estimate: Usage | None) -> Answer:  # noqa: ARG002  # the same
        """Refuse: providers are a deployment's."""
        raise InvalidProcessor(f"There is no provider {provider!r} here. Give one with `backhaul try --provider FILE`.")

    def checkpoint(self, state: Any, position: int | None = None, records: int = 1) -> None:
        """Do nothing."""

    def waits_for(self, start: int) -> None:
        """Do nothing."""

    def for_thread(self) -> Journal:
        """Return this."""
        return self
