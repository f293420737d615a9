"""Acting on dead letters: each act is written down first, and a message is deleted only after its new home has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from backhaul.clock import Clock
from backhaul.errors import BackhaulError
from backhaul.operations.contents import Queue
from backhaul.operations.deadletters import DeadLetter
from backhaul.operations.holding import Held
from backhaul.store import AuditLog
from backhaul.store.audit import AuditRecord

LETTERS_MOST = 100
"""Letters of one job that one act, and one audit record, is about."""
BODY_MOST = 100_000
"""Bytes of a discarded body that the audit trail keeps; DynamoDB takes 400 KB for an item."""
_NAMES_MOST = 20
"""Copies of one letter that an audit record names; it counts the others."""
_NAP_SECONDS = 10.0


class Fate(StrEnum):
    """What became of a letter."""

    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    DISCARDED = "discarded"
    KEPT = "kept"


@dataclass(frozen=True)
class Outcome:
    """What an act came to; whatever is not kept may be deleted."""

    fate: Fate
    said: str


@dataclass(frozen=True)
class Unit:
    """The letters that one act is about: of one queue, one job and one run."""

    letters: tuple[DeadLetter, ...]

    @property
    def queue(self) -> Queue:
        """Where the letters lie."""
        return self.letters[0].queue


@dataclass(frozen=True)
class Settled:
    """A unit and what became of it."""

    unit: Unit
    outcome: Outcome


class Act(Protocol):
    """Something to do with dead letters."""

    @property
    def name(self) -> str:
        """What it is called, in the audit trail too."""

    @property
    def keeps_body(self) -> bool:
        """Whether the audit trail must keep the body, because nothing else will."""

    def units(self, letters: Iterable[DeadLetter]) -> Iterator[Unit]:
        """Yield the letters as they are to be acted on."""

    def foresee(self, unit: Unit) -> Outcome:
        """Return what the act would come to, as far as the letters tell; it changes nothing."""

    def __call__(self, unit: Unit) -> Outcome:
        """Give the letters their new home; again after an interruption it comes to the same."""


@dataclass
class Pace:
    """So many acts a second, and no limit where that is None."""

    per_second: float | None
    clock: Clock
    sleep: Callable[[float], None] = time.sleep
    _next: float | None = field(default=None, init=False)

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Wait for the next act's turn; `meanwhile` is called every few seconds."""
        if self.per_second is None:
            return
        now = self.clock.monotonic()
        turn = now if self._next is None else max(self._next, now)
        self._next = turn + 1 / self.per_second
        while (left := turn - self.clock.monotonic()) > 0:
            self.sleep(min(left, _NAP_SECONDS))
            meanwhile()


@dataclass(frozen=True)
class Settlement:
    """One command's way with dead letters: who does it, why, and how fast."""

    act: Act
    held: Held
    audit: AuditLog
    pace: Pace
    who: str
    why: str

    def settle(self, letters: Iterable[DeadLetter]) -> Iterator[Settled]:
        """Act on the letters, unit after unit, and yield what became of each."""
        for unit in self.act.units(letters):
            yield Settled(unit, self._settle(unit))

    def _settle(self, unit: Unit) -> Outcome:
        foreseen = self.act.foresee(unit)
        if foreseen.fate is Fate.KEPT:
            return foreseen
        self.pace.wait(self.held.renew)
        self.held.renew()
        copies = [copy for letter in unit.letters for copy in letter.copies]
        if not self.held.claim(unit.queue, copies):
            return Outcome(Fate.KEPT, "Another command holds it now.")
        begun = self.audit.begin(self._record(unit), unit.letters[0].standing)
        try:
            outcome = self.act(unit)
        except BackhaulError as error:
            outcome = Outcome(Fate.KEPT, str(error))
        self.audit.close(begun, f"{outcome.fate}: {outcome.said}")
        if outcome.fate is not Fate.KEPT and not self.held.delete(unit.queue, copies):
            return Outcome(Fate.KEPT, f"{outcome.said} SQS did not delete the letter; do it again.")
        return outcome

    def _record(self, unit: Unit) -> AuditRecord:
        first = unit.letters[0]
        body = first.oldest.body if self.act.keeps_body else None
        return AuditRecord(
            action=f"dlq {self.act.name}",
            who=self.who,
            why=self.why,
            job=f"{first.job.tenant}/{first.job.job_id}" if first.job else None,
            what={"queue": unit.queue, "letters": [_named(letter) for letter in unit.letters]},
            body=body if body is not None and len(body.encode()) < BODY_MOST else None,
        )


class Discard:
    """Throw letters away."""

    name = "discard"
    keeps_body = True

    def units(self, letters: Iterable[DeadLetter]) -> Iterator[Unit]:
        """Yield each letter on its own, so that the audit trail has room for its body."""
        return (Unit((letter,)) for letter in letters)

    def foresee(self, _unit: Unit) -> Outcome:
        """Return that it is thrown away."""
        return Outcome(Fate.DISCARDED, "Thrown away.")

    def __call__(self, unit: Unit) -> Outcome:
        """Do nothing: without its letter nothing is left to do."""
        return self.foresee(unit)


def _named(letter: DeadLetter) -> dict[str, object]:
    return {
        "message_ids": [copy.message_id for copy in letter.copies[:_NAMES_MOST]],
        "copies": len(letter.copies),
        "letter_id": letter.letter_id,
        "reason": letter.reason,
    }
