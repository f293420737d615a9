"""What an attempt is working on at this moment, for the thread that watches it and for every write of its record."""

from __future__ import annotations

from dataclasses import dataclass

from backhaul.worker.chunk_run import ChunkRun


@dataclass
class InWork:
    """The chunk and the record in work; written by the worker's own thread only."""

    chunk: int | None = None
    """Index of the chunk in work."""
    underway: int = 0
    """Chunks begun since the last commit."""
    run: ChunkRun | None = None
    """The latest try at a chunk; its safe points are kept also after its processor has failed."""
    is_processing: bool = False
    """Whether the processor's code is at work."""

    def record_identity(self) -> object:
        """Return what tells the record in work, and the try at it, from every other; None while none is in work."""
        run = self.run
        return (run, run.records.count, run.first) if run and self.is_processing else None
