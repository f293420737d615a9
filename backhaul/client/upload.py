"""A file to upload: its size, its name and its checksum, and the progress of reading it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from backhaul.model.errors import InvalidRequest

Progress = Callable[[int], None]
"""A function that is called with the bytes moved so far."""

BLOCK = 1024**2


def size_of(path: Path) -> int:
    """Return a file's size in bytes; raises `InvalidRequest` for a file that cannot be submitted."""
    if not path.is_file():
        raise InvalidRequest(f"{path} is not a file.")
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"{path} cannot be read.")
    size = path.stat().st_size
    if size == 0:
        raise InvalidRequest(f"{path} is empty; there is nothing to process.")
    return size


def name_of(path: Path) -> str:
    """Return the file's name as text; bytes that are no valid text become replacement characters."""
    return path.name.encode(errors="surrogateescape").decode(errors="replace")


def sha256_of(path: Path, progress: Progress) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(file.tell())
    return digest.hexdigest()


def tracked(file: BinaryIO, progress: Progress) -> BinaryIO:
    """Return the file as one that reports how many of its bytes were read."""
    return cast(BinaryIO, _Tracked(file, progress))


class _Tracked:
    """A file that reports how many of its bytes were read; httpx learns its length by `seek` and `tell`."""

    def __init__(self, file: BinaryIO, progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self.seek, self.tell, self.fileno = file.seek, file.tell, file.fileno

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._progress(self._file.tell())
        return block
