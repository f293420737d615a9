"""Reading a file, or a sample of it, and asking its processor which calls it expects; no provider is called."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice, pairwise
from typing import Any, BinaryIO, TypeVar

import msgspec

from backhaul.estimate.estimate import Sampled, sampling_error, together
from backhaul.model.errors import CannotEstimate, UnsuitableInput
from backhaul.model.shard import KIB, MAX_CHUNKS, MIB, check_chunks, choose_chunk_bytes
from backhaul.plugin.failure import processor_cause
from backhaul.plugin.processor import Expected, Processor
from backhaul.reading import Bytes, Chunk, Source, Window

T = TypeVar("T")

READ_WHOLE = 16 * MIB
"""Bytes of the largest file that is read whole. Counting tokens takes half a second per megabyte."""
SAMPLE_BYTES = 8 * MIB
PIECE_BYTES = 256 * KIB
LARGEST = 1e15
"""The largest count that is accepted from a processor or a request."""
_SEED = 2026
_MAX_NAME = 63


@dataclass(frozen=True)
class Look:
    """The result of `look_at`: how many chunks the file will have, and what was read of it."""

    chunks: int
    sampled: Sampled

    def to_json(self) -> dict[str, Any]:
        """Return it as the JSON that `POST /estimate` takes, which holds only counts."""
        return {**msgspec.to_builtins(self.sampled), "chunks": self.chunks}


@dataclass(frozen=True)
class TextSource:
    """A text in memory as an input."""

    text: bytes

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self.text)

    def open(self, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end)."""
        return BytesIO(self.text[start:end])


def expects_calls(processor: Processor) -> bool:
    """Return whether the processor says which calls of providers it expects."""
    return type(processor).expect is not Processor.expect


def look_at(
    create: Callable[[], Processor],
    source: Source,
    progress: Callable[[int], None] = lambda _: None,
) -> Look:
    """Read a file of up to 16 MiB whole, or 32 pieces from all over a larger one, and return what was found.

    The same file is always sampled in the same places. `create` makes the processors: one that splits, and one for each
    piece. `progress` is called with the bytes of the sample that are done. Raises `UnsuitableInput`, and
    `CannotEstimate` if the processor fails.
    """
    chunks = _split(create(), source, None)
    is_whole = source.size <= READ_WHOLE
    pieces = chunks if is_whole else _spread(_pieces(create, source, chunks))
    found = _Found()
    with closing(Window(source)) as window:
        for group in _groups(pieces, 0 if is_whole else source.size // len(chunks)):
            values: list[Any] = []
            for piece in group:
                records = _read(create(), window, piece)
                size = piece.end - piece.start
                if not is_whole:
                    found.weights.append((size, len(records), _tokens(_expect(create(), records))))
                found.read += size
                values += records
                progress(found.read)
            found.records += len(values)
            found.calls += _expect(create(), values)
    return Look(len(chunks), found.sampled(source.size))


def look_at_beginning(processor: Processor, source: Source) -> Sampled:
    """Return what the processor expects for the text at the beginning of a file; raises like `look_at`."""
    with closing(Window(source)) as window:
        records = _read(processor, window, Chunk(0, 0, source.size))
    return Sampled(source.size, len(records), tuple(together(_expect(processor, records))))


def problem_of(expected: object) -> str | None:
    """Return what is wrong with an expected call from a plug-in or a request, or None."""
    if not isinstance(expected, Expected):
        return f"it gives {type(expected).__name__} instead of Expected"
    # Types are checked, because a plug-in may be untyped.
    if not isinstance(expected.provider, str) or not 0 < len(expected.provider) <= _MAX_NAME:  # type: ignore[redundant-expr]
        return f"a provider's name has 1 to {_MAX_NAME} characters"
    for name in ("calls", "input_tokens", "output_tokens", "max_output_tokens"):
        value = getattr(expected, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LARGEST:
            return f"{name} must be a number from 0 to 10^15"
    return None


@dataclass
class _Found:
    """What was read so far; for a sample, also the bytes, records and tokens of each piece."""

    read: int = 0
    records: int = 0
    calls: list[Expected] = field(default_factory=list)
    weights: list[tuple[int, int, float]] = field(default_factory=list)

    def sampled(self, size: int) -> Sampled:
        share = self.read / size
        errors = (
            sampling_error([(each, records) for each, records, _ in self.weights], share),
            sampling_error([(each, tokens) for each, _, tokens in self.weights], share),
        )
        return Sampled(self.read, self.records, tuple(together(self.calls)), math.ceil(max(errors) * 1000) / 1000)


def _split(processor: Processor, source: Source, chunk_bytes: int | None) -> list[Chunk]:
    own = processor.options.chunk_bytes or choose_chunk_bytes(source.size)
    nominal = own if chunk_bytes is None else min(chunk_bytes, own)
    chunks = _of_processor("split", lambda: list(islice(processor.split(source, nominal), MAX_CHUNKS + 1)))
    if fault := check_chunks(chunks, source.size):
        raise CannotEstimate(fault)
    return chunks


def _pieces(create: Callable[[], Processor], source: Source, chunks: list[Chunk]) -> list[Chunk]:
    """Return the pieces of the file from which a sample is drawn."""
    # A reader of bytes makes one record of each chunk, so a smaller piece would be another record.
    return chunks if isinstance(create().reads, Bytes) else _split(create(), source, PIECE_BYTES)


def _spread(pieces: Sequence[Chunk]) -> list[Chunk]:
    """Return pieces with about `SAMPLE_BYTES` together: the file is cut into equal stretches, and each gives one."""
    size = max(pieces[-1].end // len(pieces), 1)
    count = min(max(SAMPLE_BYTES // size, 2), len(pieces))
    choice = random.Random(_SEED)  # noqa: S311  # every caller gets the same sample
    borders = [len(pieces) * number // count for number in range(count + 1)]
    return [pieces[choice.randrange(first, last)] for first, last in pairwise(borders)]


def _groups(pieces: Iterable[Chunk], size: int) -> Iterator[list[Chunk]]:
    """Yield groups of pieces as large as a chunk, because a processor joins records in one call only within a chunk."""
    group: list[Chunk] = []
    gathered = 0
    for piece in pieces:
        group.append(piece)
        gathered += piece.end - piece.start
        if gathered + (piece.end - piece.start) // 2 >= size:
            yield group
            group, gathered = [], 0
    if group:
        yield group


def _read(processor: Processor, window: Window, piece: Chunk) -> list[Any]:
    return _of_processor("reads", lambda: [record.value for record in processor.reads.read(window, piece)])


def _expect(processor: Processor, records: list[Any]) -> list[Expected]:
    calls = _of_processor("expect", lambda: list(processor.expect(records)) if records else [])
    if problem := next(filter(None, map(problem_of, calls)), None):
        raise CannotEstimate(f"expect of the processor {processor.name} breaks its contract: {problem}.")
    return calls


def _tokens(calls: Iterable[Expected]) -> float:
    return sum(each.input_tokens + each.output_tokens for each in calls)


def _of_processor(method: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except (UnsuitableInput, OSError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # the processor's own code may raise any exception with any text
        said = processor_cause(error).message
        raise CannotEstimate(f"No estimate can be made, because {method} failed. {said}") from error
