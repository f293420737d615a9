"""Acts on dead letters: writes the audit record first, and deletes a message only after its redrive or discard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from backhaul.model.clock import Clock
from backhaul.model.errors import BackhaulError
from backhaul.operations.contents import Queue
from backhaul.operations.dead_letters import DeadLetter
from backhaul.operations.holding import Held
from backhaul.store import AuditLog
from backhaul.store.audit import AuditRecord

MAX_DEAD_LETTERS = 100
"""The most dead letters of one job in one act, and so in one audit record."""
MAX_BODY = 100_000
"""A discarded body of fewer bytes is kept in the audit trail; DynamoDB takes 400 KB for an item."""
_MAX_NAMES = 20
"""The most copies of one dead letter that an audit record names; it counts the others."""
_NAP_SECONDS = 10.0


class ActStatus(StrEnum):
    """The result of an act on a dead letter; only one that was kept stays in its queue."""

    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    KEPT = "kept"


@dataclass(frozen=True)
class ActResult:
    """The result of an act, with a sentence for people; the messages may be deleted unless the status is `KEPT`."""

    status: ActStatus
    said: str


@dataclass(frozen=True)
class DeadLetterGroup:
    """The dead letters of one act: all of one queue, one job and one run."""

    dead_letters: tuple[DeadLetter, ...]

    @property
    def queue(self) -> Queue:
        """The queue that holds the dead letters."""
        return self.dead_letters[0].queue


@dataclass(frozen=True)
class GroupResult:
    """A group and the result of the act on it."""

    group: DeadLetterGroup
    result: ActResult


class Act(Protocol):
    """An act on dead letters."""

    @property
    def name(self) -> str:
        """The act's name, on the command line and in the audit trail."""

    @property
    def keeps_body(self) -> bool:
        """Whether the audit trail must keep the message's body, because the act leaves no other copy."""

    def groups(self, dead_letters: Iterable[DeadLetter]) -> Iterator[DeadLetterGroup]:
        """Yield the dead letters in the groups on which to act."""

    def foresee(self, group: DeadLetterGroup) -> ActResult:
        """Return the probable result of the act, by the dead letters alone; change nothing."""

    def __call__(self, group: DeadLetterGroup) -> ActResult:
        """Do the act and return its result; a repetition after an interruption has the same result."""


@dataclass
class Pace:
    """The most acts a second; None is no limit."""

    per_second: float | None
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    _next: float | None = field(default=None, init=False)

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Wait until the next act may start; call `meanwhile` every few seconds."""
        if self.per_second is None:
            return
        now = self.clock.monotonic()
        turn = now if self._next is None else max(self._next, now)
        self._next = turn + 1 / self.per_second
        while (left := turn - self.clock.monotonic()) > 0:
            self.sleep(min(left, _NAP_SECONDS))
            meanwhile()


@dataclass(frozen=True)
class DeadLetterCommand:
    """One command's acts on dead letters: which act, by whom (`who`, an ARN), why, and how fast."""

    act: Act
    held: Held
    audit: AuditLog
    pace: Pace
    who: str
    why: str

    def run(self, dead_letters: Iterable[DeadLetter]) -> Iterator[GroupResult]:
        """Act on the dead letters, group after group, and yield each group with its result."""
        for group in self.act.groups(dead_letters):
            yield GroupResult(group, self._act_on(group))

    def _act_on(self, group: DeadLetterGroup) -> ActResult:
        foreseen = self.act.foresee(group)
        if foreseen.status is ActStatus.KEPT:
            return foreseen
        self.pace.wait(self.held.renew)
        self.held.renew()
        copies = [copy for dead_letter in group.dead_letters for copy in dead_letter.copies]
        if not self.held.claim(group.queue, copies):
            return ActResult(ActStatus.KEPT, "Another command is working on the dead letter. Try again in 5 minutes.")
        begun = self.audit.begin(self._record(group), group.dead_letters[0].standing)
        try:
            result = self.act(group)
        except BackhaulError as error:
            result = ActResult(ActStatus.KEPT, str(error))
        self.audit.close(begun, f"{result.status}: {result.said}")
        if result.status is not ActStatus.KEPT and not self.held.delete(group.queue, copies):
            return ActResult(
                ActStatus.KEPT, f"{result.said} SQS did not delete the dead letter. Run the command again."
            )
        return result

    def _record(self, group: DeadLetterGroup) -> AuditRecord:
        first = group.dead_letters[0]
        body = first.oldest.body if self.act.keeps_body else None
        return AuditRecord(
            action=f"dlq {self.act.name}",
            who=self.who,
            why=self.why,
            job=f"{first.job.tenant}/{first.job.job_id}" if first.job else None,
            what={"queue": group.queue, "dead_letters": [_named(dead_letter) for dead_letter in group.dead_letters]},
            body=body if body is not None and len(body.encode()) < MAX_BODY else None,
        )


class Discard:
    """The act that throws dead letters away."""

    name = "discard"
    keeps_body = True

    def groups(self, dead_letters: Iterable[DeadLetter]) -> Iterator[DeadLetterGroup]:
        """Yield each dead letter on its own, so that the audit trail has room for its body."""
        return (DeadLetterGroup((dead_letter,)) for dead_letter in dead_letters)

    def foresee(self, _group: DeadLetterGroup) -> ActResult:
        """Return that the group is thrown away."""
        return ActResult(ActStatus.DISCARDED, "Thrown away.")

    def __call__(self, group: DeadLetterGroup) -> ActResult:
        """Do nothing: the deletion of the messages, which follows every act, is all there is to do."""
        return self.foresee(group)


def _named(dead_letter: DeadLetter) -> dict[str, object]:
    return {
        "message_ids": [copy.message_id for copy in dead_letter.copies[:_MAX_NAMES]],
        "copies": len(dead_letter.copies),
        "dead_letter_id": dead_letter.dead_letter_id,
        "reason": dead_letter.reason,
    }
