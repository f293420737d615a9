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

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from backhaul.plugin.context import Context, RecordCursor
from backhaul.reading import Chunk, Lines, Reader, Record, Source

MAX_CHUNK_BYTES = 64 * 1024**2


class Expected(msgspec.Struct, frozen=True):
    """What calls of one provider will take together, as far as the records tell; output is a guess and a bound."""

    provider: str
    calls: float
    input_tokens: float
    output_tokens: float = 0.0
    max_output_tokens: float = 0.0


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
        cursor = RecordCursor.of(ctx)
        for record in records:
            cursor.begin_record(record.start)
            value = self.process(record.value, ctx)
            if value is not None:
                yield self.reads.encode(value, record)
            cursor.end_record()

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
