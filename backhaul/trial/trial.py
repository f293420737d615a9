"""Runs a processor on a file in this process: the author's inner loop. The pipeline must return the same output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from backhaul.model.errors import InvalidProcessor
from backhaul.model.shard import MAX_CHUNKS, check_chunks, choose_chunk_bytes
from backhaul.model.tallies import sum_tallies
from backhaul.plugin.context import Context
from backhaul.plugin.failure import Watched, only_bytes, processor_cause
from backhaul.plugin.journal import Journal
from backhaul.plugin.processor import Processor
from backhaul.reading import Chunk, Source, Window
from backhaul.worker.chunk_run import ChunkFault, ChunkResult, run_chunk


@dataclass(frozen=True)
class Trial:
    """The counts of a trial; `tallies` are the processor's own, by name."""

    chunks: int
    records: int
    tallies: Mapping[str, int]


def trial(
    create: Callable[[], Processor],
    source: Source,
    output: BinaryIO,
    progress: Callable[[int], None] | None = None,
    journal: Journal | None = None,
) -> Trial:
    """Split, process and merge the whole input in this process, write the output, and return the counts.

    `create` makes the processors, as in the cloud: one that splits, one for each chunk, one that merges. The trial
    calls `progress` with the input bytes handled so far, and makes the calls of providers through `journal`. Raises
    `UnsuitableInput`, the processor's own exceptions, and `InvalidProcessor` if the processor breaks its contract or
    calls `sys.exit`.
    """
    work = _Work(create, source, progress or (lambda _: None), journal)
    try:
        work.merge(output)
    except SystemExit as error:  # it would end the author's command as if the trial had succeeded
        raise InvalidProcessor(f"{processor_cause(error).message} Raise another exception instead.") from error
    return Trial(work.chunks, work.records, sum_tallies([work.tallies]))


class _Work:
    def __init__(
        self, create: Callable[[], Processor], source: Source, progress: Callable[[int], None], journal: Journal | None
    ) -> None:
        self._create = create
        self._source = source
        self._progress = progress
        self._journal = journal
        self.chunks = 0
        self.records = 0
        self.tallies: Mapping[str, int] = {}

    def merge(self, output: BinaryIO) -> None:
        results = Watched(self._results())
        try:
            for piece in only_bytes(self._create().merge(results, Context()), "merge"):
                output.write(piece)
            for _ in results:  # a merge may stop early, but the pipeline processes every chunk, and so must a trial
                pass
        except Exception:
            results.raise_failure()
            raise
        results.raise_failure()

    def _results(self) -> Iterator[bytes]:
        with closing(Window(self._source)) as window:
            for chunk in self._split():
                result = run_chunk(self._create(), window, chunk, self._journal)
                if isinstance(result, ChunkFault):
                    raise result.error
                self._count(result)
                yield result.body

    def _split(self) -> list[Chunk]:
        processor = self._create()
        chunk_bytes = processor.options.chunk_bytes or choose_chunk_bytes(self._source.size)
        chunks = list(islice(processor.split(self._source, chunk_bytes), MAX_CHUNKS + 1))
        fault = check_chunks(chunks, self._source.size) if self._source.size else None
        if fault is not None:
            raise InvalidProcessor(fault)
        return chunks

    def _count(self, result: ChunkResult) -> None:
        self.chunks += 1
        self.records += result.records
        self.tallies = sum_tallies([self.tallies, result.tallies])
        self._progress(result.chunk.end)
