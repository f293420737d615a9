"""The processor contract: what you write to make Backhaul do your work.

    from backhaul import Lines, Processor

    class Shout(Processor):
        \"""Write every line in capitals.\"""

        name = "shout"
        reads = Lines()

        def process(self, record, ctx):
            return record.upper()

Three methods, each with a default: `split` cuts the input into chunks, `process` handles one record,
`merge` combines the chunks' results. Everything else (parallelism, retries, checkpoints) is Backhaul's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from backhaul.model.errors import InvalidProcessor
from backhaul.model.tallies import MAX_TALLIES
from backhaul.plugin.journal import Journal, NoJournal, Step
from backhaul.providers.calls import Answer, Request, Usage
from backhaul.reading import Chunk, Lines, Reader, Record, Source

MAX_CHUNK_BYTES = 64 * 1024**2
MAX_TALLY_NAME = 100
MAX_TALLY = 10**15
MAX_STEP_NAME = 200


class Expected(msgspec.Struct, frozen=True):
    """What calls of one provider will take together, as far as the records tell; output is a guess and a bound."""

    provider: str
    calls: float
    input_tokens: float
    output_tokens: float = 0.0
    max_output_tokens: float = 0.0


class Context:
    """What a processor may use while it works on one chunk."""

    def __init__(self, journal: Journal | None = None, scope: int = 0) -> None:
        self.tallies: Counter[str] = Counter()
        self._journal = journal or NoJournal()
        self._tallied: set[str] = set()
        self._scope = scope
        self._in_record = False
        self._steps: set[str] = set()

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
        self.tallies[name] += amount

    def step(self, name: str, call: Callable[[], Any]) -> Any:
        """Return what `call()` answers, which is stored first: a repetition gets the stored answer, and calls nothing.

        The name is unique within the record; the answer is what JSON can hold, and comes back as JSON has it.
        """
        step = self._begin_step(name)
        stored = self._journal.recall(step)
        if stored is None:
            stored = self._journal.keep(step, _to_json(call(), f"the answer of step {name!r}"))
        return msgspec.json.decode(stored)

    def call(self, provider: str, request: Request, *, name: str = "", estimate: Usage | None = None) -> Answer:
        """Return what a provider answers: a `Chat`, `Embed` or `Raw`, asked once, when budget and limits let it.

        It is a step, known by what is asked: a repetition gets the stored answer, and pays nothing. Who asks the same
        twice in a record gives each call a `name`. `estimate` is what the call takes at most, where that is less than
        the request says. Raises `ModelRefused`, `PromptTooLong`, `ProviderRejected` and `ProviderDown`, and
        `OperatorError` for a provider that is not set up; a wait for the provider is none of the processor's.
        """
        if not isinstance(request, Request):
            raise TypeError(f"a provider is asked a Chat, an Embed or a Raw, not {type(request).__name__}")
        asked = _to_json([provider, type(request).__name__, request], "the request")
        step = self._begin_step(f"{name or 'call'} {hashlib.sha256(asked).hexdigest()[:32]}", shown=name or "call")
        return self._journal.ask(step, provider, request, estimate)

    def _begin_step(self, name: str, shown: str | None = None) -> Step:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_STEP_NAME:  # type: ignore[redundant-expr]
            raise ValueError(f"a step's name has 1 to {MAX_STEP_NAME} characters, not {name!r}")
        name.encode()  # raises for half a surrogate pair, which no key could hold
        if name in self._steps:
            raise ValueError(f"there are two steps {shown or name!r} in one record; give each a name of its own")
        self._steps.add(name)
        return self._scope, name

    def checkpoint(self, state: Any = None) -> None:
        """Say that everything yielded so far may be kept: after a crash the records that follow are the next.

        It is for `process_chunk`; with `process`, every record ends with one. `state` comes back as `ctx.state`: what
        JSON can hold, 64 KiB at most. An attempt whose time is up ends here, by an exception that is not for the
        processor to catch.
        """
        if self._in_record:
            raise InvalidProcessor("checkpoint is for process_chunk: inside process the record is not done yet.")
        self._journal.checkpoint(state)

    @property
    def state(self) -> Any:
        """What the last checkpoint kept of this chunk; None before the first."""
        return self._journal.state

    def begin_record(self, start: int) -> None:
        """Begin the record at this byte offset: its steps are its own."""
        self._scope, self._in_record = start, True
        if self._steps:
            self._steps = set()

    def end_record(self) -> None:
        """End the record: what became of it is yielded, so it is a checkpoint."""
        self._in_record = False
        self._journal.checkpoint(None)

    def beside(self, record: Record) -> Context:
        """Return a context for a record that another thread works on."""
        other = Context(self._journal.beside(), record.start)
        other._in_record = True
        return other

    def waits_for(self, record: Record) -> None:
        """Say which record is the first that is not done: its time limit runs."""
        self._journal.waits_for(record.start)

    def end_beside(self, records: Sequence[Record], others: Iterable[Context]) -> None:
        """End consecutive records that another thread has worked on, as `end_record` does: those before have ended."""
        for other in others:
            for name, amount in other.tallies.items():
                self.tally(name, amount)
        last = records[-1]
        self._journal.checkpoint(None, last.start + last.size, len(records))


def _to_json(value: Any, what: str) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidProcessor(f"{what} is nothing that JSON can hold: {error}.") from error


class Processor:
    """One way to handle a file; subclass it, set `name`, and override `process`."""

    name: ClassVar[str] = ""
    """What callers write to choose it: lower-case letters, digits and hyphens."""
    reads: Reader = Lines()
    """How the input is cut and what a record is: `Lines`, `JsonLines`, `Csv` or `Bytes`; an instance may choose."""
    content_type: ClassVar[str] = "application/octet-stream"
    """The media type of the output."""

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """What callers may set with `-o`; subclass it to add your own typed, documented fields."""

        chunk_bytes: (
            Annotated[
                int,
                msgspec.Meta(ge=1, le=MAX_CHUNK_BYTES, description="Nominal chunk size; default: by file size."),
            ]
            | None
        ) = None

    def __init__(self, options: Options) -> None:
        self.options: Any = options

    def split(self, source: Source, chunk_bytes: int) -> Iterable[Chunk]:
        """Yield the input's chunks in order; raises `UnsuitableInput` when the file cannot be read."""
        return self.reads.split(source, chunk_bytes)

    def process(self, record: Any, ctx: Context) -> Any:
        """Return what becomes of one record, or None to drop it; what `reads` says is how it is written."""
        raise NotImplementedError(f"{type(self).__name__} overrides neither process nor process_chunk")

    def process_chunk(self, records: Iterator[Record], ctx: Context) -> Iterable[bytes]:
        """Yield a chunk's result in pieces; override it where one record at a time is too slow."""
        for record in records:
            ctx.begin_record(record.start)
            value = self.process(record.value, ctx)
            if value is not None:
                yield self.reads.encode(value, record)
            ctx.end_record()

    def expect(self, records: Sequence[Any]) -> Iterable[Expected]:
        """Yield what calls of providers consecutive records will need, for an estimate before a job; none by default.

        Records are as `process` gets them, and may be a sample: nothing is called.
        """
        return ()

    def merge(self, results: Iterator[bytes], ctx: Context) -> Iterable[bytes]:
        """Yield the output from the chunks' results, in the input's order; by default they are joined."""
        return results

    @classmethod
    def joins_results(cls) -> bool:
        """Whether the output is the results end to end, so that S3 can join them without reading them."""
        return cls.merge is Processor.merge
