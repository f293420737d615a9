"""A processor on a file in this process: the author's inner loop, and what the pipeline must equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

from backhaul.processor import Context, Processor
from backhaul.reading import Chunk, Record, Source, Window
from backhaul.shard import choose_chunk_bytes


@dataclass(frozen=True)
class Trial:
    """What a trial did; `tallies` are the processor's own counts, by name."""

    chunks: int
    records: int
    tallies: Mapping[str, int]


def trial(
    processor: Processor,
    source: Source,
    output: BinaryIO,
    progress: Callable[[int], None] | None = None,
) -> Trial:
    """Split, process and merge the whole input here, write the output, and return what was counted.

    `progress` is called with the input bytes handled so far. Raises `UnsuitableInput`, and whatever the
    processor raises.
    """
    work = _Work(processor, source, progress or (lambda _: None))
    for piece in processor.merge(work.results(), Context()):
        output.write(piece)
    return Trial(work.chunks, work.records, dict(sorted(work.ctx.tallies.items())))


class _Work:
    def __init__(self, processor: Processor, source: Source, progress: Callable[[int], None]) -> None:
        self._processor = processor
        self._source = source
        self._progress = progress
        self.ctx = Context()
        self.chunks = 0
        self.records = 0

    def results(self) -> Iterator[bytes]:
        """Yield each chunk's result, in order."""
        chunk_bytes = self._processor.options.chunk_bytes or choose_chunk_bytes(self._source.size)
        with closing(Window(self._source)) as window:
            for chunk in self._processor.split(self._source, chunk_bytes):
                yield b"".join(self._processor.process_chunk(self._records(window, chunk), self.ctx))
                self.chunks += 1
                self._progress(chunk.end)

    def _records(self, window: Window, chunk: Chunk) -> Iterator[Record]:
        for record in self._processor.reads.read(window, chunk):
            self.records += 1
            yield record
