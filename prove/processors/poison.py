"""A processor that fails in whatever way a record says."""

import hashlib
import os
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from backhaul import Context, Lines, Permanent, Processor, Transient

MIB = 1024**2


class Poison(Processor):
    """Write every line in capitals; `poison:<way>` in a line makes that fail in this way."""

    name = "poison"
    reads = Lines()

    class Options(Processor.Options, frozen=True, kw_only=True):
        mended: str = ""
        """A file: once it exists, the processor has been mended and no way fails any more."""
        seconds: Annotated[float, Meta(ge=0)] = 0.0
        """For each line."""

    def process(self, record: str, ctx: Context) -> Any:
        time.sleep(self.options.seconds)
        way = re.search(r"poison:(\w+)", record)
        if way and not (self.options.mended and Path(self.options.mended).exists()):
            return getattr(self, f"_{way[1]}")(ctx)
        return record.upper()

    def _raise(self, ctx: Context) -> Any:
        raise ValueError("this line cannot be worked on")

    def _permanent(self, ctx: Context) -> Any:
        raise Permanent("no repetition mends this line")

    def _transient(self, ctx: Context) -> Any:
        raise Transient("the provider is busy", retry_after=0.2)

    def _later(self, ctx: Context) -> Any:
        raise Transient("the provider is busy", retry_after=3)  # longer than a worker sleeps

    def _leave(self, ctx: Context) -> Any:
        raise SystemExit(3)

    def _exit(self, ctx: Context) -> Any:
        os._exit(1)

    def _sleep(self, ctx: Context) -> Any:
        time.sleep(3600)

    def _regex(self, ctx: Context) -> Any:
        re.match(r"(a+)+$", "a" * 64 + "b")

    def _stuck(self, ctx: Context) -> Any:
        # C code that looks at no signal.
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

    def _memory(self, ctx: Context) -> Any:
        # The emulator gives a function all the memory there is: the limit is what Lambda's own would be.
        before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 64 * MIB, before[1]))
        hoard: list[bytearray] = []
        try:
            while True:
                hoard.append(bytearray(MIB))
        finally:
            hoard.clear()
            resource.setrlimit(resource.RLIMIT_AS, before)

    def _disk(self, ctx: Context) -> Any:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 * MIB, before[1]))
        try:
            with tempfile.NamedTemporaryFile() as file:
                while True:
                    file.write(bytes(MIB))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    def _object(self, ctx: Context) -> Any:
        return object()

    def _surrogate(self, ctx: Context) -> Any:
        return "\ud800"

    def _answer(self, ctx: Context) -> Any:
        return ctx.step("answer", lambda: {1, object()})

    def _tally(self, ctx: Context) -> Any:
        ctx.tally("many", 10**20)
