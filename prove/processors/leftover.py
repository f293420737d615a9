"""A processor that leaves behind all it can, and looks for what others left."""

import os
import tempfile
from pathlib import Path
from typing import ClassVar

from backhaul import Context, Lines, Processor

LEFT: list[str] = []


class Leftover(Processor):
    """Write, for each line, the process it is worked on in and what was found there; then leave the line there."""

    name = "leftover"
    reads = Lines()

    left: ClassVar[list[str]] = []

    class Options(Processor.Options, frozen=True, kw_only=True):
        dies: bool = False
        """Whether the worker dies in its last line, so that it cannot tidy up."""

    def process(self, record: str, ctx: Context) -> str:
        place = Path(tempfile.gettempdir())
        found = [*LEFT, *Leftover.left, *(file.read_text() for file in place.rglob("left-*"))]
        place.joinpath(f"left-{os.getpid()}-{len(LEFT)}").write_text(record)
        LEFT.append(record)
        Leftover.left.append(record)
        if self.options.dies and "last" in record:
            os._exit(1)
        return f"{os.getpid()} {' '.join(sorted(set(found)))}"
