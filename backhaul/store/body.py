"""A streamed body that survives a broken connection."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError

from backhaul.model.errors import StoreRefused, StoreUnavailable
from backhaul.model.transience import is_transient

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_MAX_BREAKS = 5


class ResumingBody(io.RawIOBase):
    """The bytes [start, end) of an object; after a broken connection it opens the stream again at the same byte.

    `get(position)` opens the stream from `position` on. Raises `StoreUnavailable` after five breaks
    without progress or for a transient error of S3, and `StoreRefused` for any other error of S3.
    """

    def __init__(self, get: Callable[[int], BinaryIO], start: int, end: int) -> None:
        super().__init__()
        self._get = get
        self._position = start
        self._end = end
        self._body: BinaryIO | None = None
        self._breaks = 0

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read the next piece into the buffer and return its length in bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._end - self._position)
        if wanted == 0:
            return 0
        piece = self._piece(wanted)
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def close(self) -> None:
        """Close the connection."""
        if self._body is not None:
            self._body.close()
            self._body = None
        super().close()

    def _piece(self, wanted: int) -> bytes:
        while True:
            try:
                if self._body is None:
                    self._body = self._get(self._position)
                piece = self._body.read(wanted)
                if not piece:
                    raise ConnectionResetError(f"the body ended at byte {self._position} of {self._end}")
                if self._position + len(piece) == self._end:
                    self._body.read(1)  # botocore compares a checksum only when it has read the body's end
            except FlexibleChecksumError as error:  # no second read: the caller has used the earlier bytes already
                raise StoreUnavailable(str(error)) from error
            except ClientError as error:
                raise (StoreUnavailable if is_transient(error) else StoreRefused)(str(error)) from error
            except (BotoCoreError, OSError) as error:
                self._body = None
                self._breaks += 1
                if self._breaks >= _MAX_BREAKS:
                    raise StoreUnavailable(f"Reading broke off {self._breaks} times: {error}") from error
            else:
                self._breaks = 0
                return piece
