"""What a processor may use while it works on a chunk, and what moves that from record to record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from backhaul.model.errors import InvalidProcessor
from backhaul.model.tallies import MAX_TALLIES
from backhaul.plugin.journal import Journal, NoJournal, Step
from backhaul.providers.calls import Answer, Request, Usage
from backhaul.reading import Record

MAX_TALLY_NAME = 100
MAX_TALLY = 10**15
MAX_STEP_NAME = 200


class RecordCursor:
    """Where a chunk's processing stands, and the journal that is told of it.

    It is for what hands out records: `process_chunk` of `Processor` and `ConcurrentProcessor`, and the worker. A
    processor's author meets only the `Context` over it.
    """

    def __init__(self, journal: Journal | None = None, scope: int = 0, *, in_record: bool = False) -> None:
        self.journal = journal or NoJournal()
        self.tallies: Counter[str] = Counter()
        """What was counted since the worker last took it."""
        self.in_record = in_record
        """Whether a record is in work, rather than the chunk as a whole."""
        self._scope = scope
        self._steps: set[str] = set()

    @staticmethod
    def of(ctx: Context) -> RecordCursor:
        """Return the cursor that a context is over."""
        return ctx._cursor

    def begin_record(self, start: int) -> None:
        """Begin the record at this byte offset: its steps are its own."""
        self._scope, self.in_record = start, True
        if self._steps:
            self._steps = set()

    def end_record(self) -> None:
        """End the record, whose result has been yielded: this is a checkpoint."""
        self.in_record = False
        self.journal.checkpoint(None)

    def begin_step(self, name: str, shown: str | None = None) -> Step:
        """Return the key of a step; raises `ValueError` if its name is not its own. Messages call it `shown`."""
        if not isinstance(name, str) or not 0 < len(name) <= MAX_STEP_NAME:  # type: ignore[redundant-expr]
            raise ValueError(f"a step's name has 1 to {MAX_STEP_NAME} characters, not {name!r}")
        name.encode()  # raises for half a surrogate pair, which no key could hold
        if name in self._steps:
            raise ValueError(f"there are two steps {shown or name!r} in one record; give each a name of its own")
        self._steps.add(name)
        return self._scope, name

    def for_thread(self, record: Record) -> RecordCursor:
        """Return a cursor at a record that another thread works on."""
        return RecordCursor(self.journal.for_thread(), record.start, in_record=True)

    def waits_for(self, record: Record) -> None:
        """Say which record is the first that is not done: its time limit runs."""
        self.journal.waits_for(record.start)

    def end_records(self, last: Record, records: int) -> None:
        """End so many records up to the last, worked on by other threads, as `end_record` does: those before ended."""
        self.journal.checkpoint(None, last.start + last.size, records)


class Context:
    """What a processor may use while it works on one chunk."""

    def __init__(self, cursor: RecordCursor | None = None) -> None:
        self._cursor = cursor or RecordCursor()
        self._tallies = self._cursor.tallies
        self._tallied: set[str] = set()

    def tally(self, name: str, amount: int = 1) -> None:
        """Add to a count that the receipt shows; amounts of a chunk count only once it is committed.

        A chunk has room for 100 names of up to 100 characters.
        """
        # A plug-in need not be typed, and a tally of anything else could not be stored with the chunk's commit.
        if not isinstance(name, str) or not isinstance(amount, int):  # type: ignore[redundant-expr]
            raise TypeError(f"a tally is a name and a whole number, not {name!r} and {amount!r}")
        if len(name) > MAX_TALLY_NAME or abs(amount) > MAX_TALLY:
            raise ValueError(f"a tally's name has at most {MAX_TALLY_NAME} characters, its amount at most 15 digits")
        if name not in self._tallied:
            if len(self._tallied) == MAX_TALLIES:
                raise ValueError(
                    f"a chunk has room for {MAX_TALLIES} tallies; write what has more kinds into the result"
                )
            name.encode()  # raises for half a surrogate pair, which no receipt could hold
            self._tallied.add(name)
        self._tallies[name] += amount

    def step(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what `call()` answers, which is stored first: a repetition gets the stored answer, and calls nothing.

        The name is unique within the record; the answer is what JSON can hold, and comes back as JSON has it.
        """
        cursor = self._cursor
        step = cursor.begin_step(name)
        stored = cursor.journal.recall(step)
        if stored is None:
            stored = cursor.journal.keep(step, _to_json(call(), f"the answer of step {name!r}"))
        return msgspec.json.decode(stored)

    def call(self, provider: str, request: Request, *, name: str = "", estimate: Usage | None = None) -> Answer:
        """Return what a provider answers: a `Chat`, `Embed` or `Raw`, asked once, when budget and limits let it.

        It is a step, known by what is asked: a repetition gets the stored answer, and pays nothing. Who asks the same
        twice in a record gives each call a `name`. `estimate` is what the call takes at most, where that is less than
        the request says. Raises `ModelRefused`, `PromptTooLong`, `ProviderRejected` and `ProviderDown`, and
        `OperatorError` for a provider that is not set up; a wait for the provider is none of the processor's.
        """
        if not isinstance(request, Request):
            raise TypeError(f"a provider takes a Chat, an Embed or a Raw, not {type(request).__name__}")
        asked = _to_json([provider, type(request).__name__, request], "the request")
        digest = hashlib.sha256(asked).hexdigest()[:32]
        step = self._cursor.begin_step(f"{name or 'call'} {digest}", shown=name or "call")
        return self._cursor.journal.ask(step, provider, request, estimate)

    def checkpoint(self, state: Any = None) -> None:
        """Say that everything yielded so far may be kept: after a crash the records that follow are the next.

        It is for `process_chunk`; with `process`, every record ends with one. `state` comes back as `ctx.state`: what
        JSON can hold, 64 KiB at most. An attempt whose time is up ends here, by an exception that is not for the
        processor to catch.
        """
        if self._cursor.in_record:
            raise InvalidProcessor("checkpoint works only in process_chunk: inside process the record is not done yet.")
        self._cursor.journal.checkpoint(state)

    @property
    def state(self) -> Any:
        """What the last checkpoint kept of this chunk; None before the first."""
        return self._cursor.journal.state


def _to_json(value: Any, what: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidProcessor(f"{what} cannot be written as JSON: {error}.") from error
