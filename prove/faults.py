"""Faults: what can be done to a call, to whose and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from prove.history import Call

Kind = Literal[
    "kill before",  # the process dies before the request reaches the store
    "kill after",  # ... after its effect, before the answer comes back
    "pause before",  # the process, or its request, hangs for `seconds` while others go on
    "pause after",  # ... its answer
    "lost",  # the effect is applied, and the connection breaks before the answer
    "refuse",  # the store answers `code` and does nothing
    "reset",  # the body of a GET breaks off with a reset
    "truncate",  # the body of a GET ends early
    "corrupt",  # the body of a GET has another byte
    "out of memory",  # the runtime ends the process in the middle of a record
    "stale",  # an eventually consistent read sees the table as it was `seconds` ago
]


@dataclass
class Fault:
    """One kind of fault, for the calls that `where` picks: it skips `skip` of them and then strikes `times`."""

    kind: Kind
    where: Callable[[Call], bool]
    times: int = 1
    skip: int = 0
    chance: float = 1.0
    seconds: float = 0.0
    code: str = ""
    """What a refusal says; `compute`: it strikes in the middle of a record, not at a call."""
    zombie: bool = False
    """Whether a paused process outlives its function's time-out, which only its caller believes in."""
    alone: bool = False
    """Whether only the call hangs, and not the process: its other threads go on."""
    struck: int = field(default=0, init=False)
    _seen: int = field(default=0, init=False)

    def strikes(self, call: Call, roll: Callable[[], float]) -> bool:
        """Return whether it is this call's turn."""
        if self.struck >= self.times or not self.where(call):
            return False
        self._seen += 1
        if self._seen <= self.skip or (self.chance < 1.0 and roll() >= self.chance):
            return False
        self.struck += 1
        return True


def at(
    function: str | None = None, step: str | None = None, shard: int | None = None, **wanted: str
) -> Callable[[Call], bool]:
    """Return what picks the calls of a function, for a step, about a shard, or with other attributes of `Call`."""

    def picks(call: Call) -> bool:
        return (
            function in (None, call.function)
            and step in (None, call.step)
            and shard in (None, call.shard)
            and all(getattr(call, name) == value for name, value in wanted.items())
        )

    return picks
