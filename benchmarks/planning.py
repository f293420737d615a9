"""Plan a 1 GiB newline file: how long it takes and how many bytes are read of the file.

Run it with `.venv/bin/python benchmarks/planning.py`; it fails when planning takes a second or reads a mebibyte.
"""

import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from backhaul.model.shard import choose_chunk_bytes, plan_shards
from backhaul.reading import FileSource, Lines

GIB = 1024**3
MIB = 1024**2


@dataclass
class CountingSource:
    """A source that adds up the bytes asked for."""

    inner: FileSource
    opened: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        return self.inner.size

    def open(self, start: int, end: int) -> BinaryIO:
        self.opened.append(end - start)
        return self.inner.open(start, end)


def main() -> int:
    """Measure and print; return the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input.txt")
        with path.open("wb") as file:
            file.truncate(GIB)  # sparse: planning must not care what is inside
        source = CountingSource(FileSource(path))
        began = time.perf_counter()
        chunks = list(Lines().split(source, choose_chunk_bytes(source.size)))
        plan = [shard.to_line() for shard in plan_shards(chunks)]
        seconds = time.perf_counter() - began
    read = sum(source.opened)
    sys.stdout.write(
        f"{len(chunks)} chunks in {len(plan)} shards, a plan of {sum(map(len, plan)):,} bytes\n"
        f"{seconds * 1000:.2f} ms, {read} bytes of the file read in {len(source.opened)} request(s)\n"
    )
    return int(seconds >= 1 or read >= MIB)


if __name__ == "__main__":
    sys.exit(main())
