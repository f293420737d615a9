"""Writing an output of any size with bounded memory; large results are copied inside S3."""

from __future__ import annotations

import zlib
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from backhaul.model.errors import StoreUnavailable
from backhaul.model.job import ObjectRef
from backhaul.store.crc32 import combined, crc32_of, from_text, to_text
from backhaul.store.objects import CHECKSUM, ObjectStore, knowing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MIB = 1024**2
MIN_PART = 5 * MIB
"""Bytes of the smallest part that S3 takes; only the last part may be smaller."""
PART_WRITTEN = 8 * MIB
"""Bytes of a part that is uploaded from the buffer."""
MAX_PART_COPIED = 5 * 1024 * MIB
COPY_GAIN = 8 * MIB
"""Bytes of the smallest copy that is worth a part of its own; a smaller result is read and written."""


class OutputWriter:
    """An object that is written piece by piece, and that readers see only when it is complete.

    Use it as a context manager: an error in the block removes the uploaded parts. `close` returns the object. Its
    checksum covers all its bytes, whatever its parts: S3 checks the CRC-32 of each part that is sent, and returns the
    CRC-32 of each part that it copies.
    """

    def __init__(self, objects: ObjectStore, key: str, content_type: str) -> None:
        self._s3 = objects.client
        self._objects = objects
        self._key = key
        self._content_type = content_type
        self._upload_id: str | None = None
        self._parts: list[CompletedPartTypeDef] = []
        self._buffer = bytearray()
        self._size = 0
        self._crc = 0
        """The CRC-32 of the parts so far, without the buffer."""

    @property
    def crc32(self) -> str:
        """The CRC-32 of all bytes so far, as S3 writes it."""
        return to_text(combined(self._crc, zlib.crc32(self._buffer), len(self._buffer)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()

    def discard(self) -> None:
        """Remove the parts that were uploaded; no object is created."""
        if self._upload_id is not None:
            self._s3.abort_multipart_upload(Bucket=self._objects.bucket, Key=self._key, UploadId=self._upload_id)

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._buffer += piece
        self._size += len(piece)
        while len(self._buffer) >= PART_WRITTEN:
            self._upload_part(bytes(self._buffer[:PART_WRITTEN]))
            del self._buffer[:PART_WRITTEN]

    def append(self, key: str, start: int, length: int, etag: str = "") -> None:
        """Append `length` bytes of another object; S3 copies them itself if there are enough for a part.

        Raises `DamagedResult` if the object is not there or has another entity tag.
        """
        missing = MIN_PART - len(self._buffer) if self._buffer else 0
        head = max(missing, 0)
        if length - head < COPY_GAIN:
            self._write_from(key, start, length, etag)
            return
        self._write_from(key, start, head, etag)
        self._flush()
        self._copy(key, start + head, length - head, etag)

    def close(self) -> ObjectRef:
        """Complete the object and return it; raises `StoreUnavailable` if S3 reports another checksum."""
        if self._upload_id is None:
            return self._objects.put(self._key, bytes(self._buffer), content_type=self._content_type)
        self._flush()
        answer = self._s3.complete_multipart_upload(
            Bucket=self._objects.bucket,
            Key=self._key,
            UploadId=self._upload_id,
            MultipartUpload={"Parts": self._parts},
            ChecksumType="FULL_OBJECT",
        )
        self._upload_id = None  # `discard` has nothing to remove any more
        # The local cloud always returns a checksum of the parts' checksums, which cannot be compared.
        if answer.get("ChecksumType") == "FULL_OBJECT" and answer.get("ChecksumCRC32", self.crc32) != self.crc32:
            raise StoreUnavailable(f"S3 has put together {self._key} wrongly: its checksum is not that of its parts.")
        return ObjectRef(self._key, answer["VersionId"], self._size)

    def _write_from(self, key: str, start: int, length: int, etag: str) -> None:
        for piece in self._pieces(key, start, length, etag):
            self.write(piece)

    def _pieces(self, key: str, start: int, length: int, etag: str) -> Iterator[bytes]:
        for offset in range(0, length, PART_WRITTEN):
            yield self._objects.read(key, start + offset, min(PART_WRITTEN, length - offset), etag)

    def _copy(self, key: str, start: int, length: int, etag: str) -> None:
        # A final piece of less than 5 MiB would end as a part that S3 refuses, so it goes through the buffer.
        while length >= MIN_PART:
            size = min(length, MAX_PART_COPIED)
            number = len(self._parts) + 1
            copy = self._s3.upload_part_copy
            with knowing(key):
                answer = (partial(copy, CopySourceIfMatch=etag) if etag else copy)(
                    Bucket=self._objects.bucket,
                    Key=self._key,
                    UploadId=self._started(),
                    PartNumber=number,
                    CopySource={"Bucket": self._objects.bucket, "Key": key},
                    CopySourceRange=f"bytes={start}-{start + size - 1}",
                )
            copied = answer["CopyPartResult"]
            part: CompletedPartTypeDef = {"PartNumber": number, "ETag": copied["ETag"]}
            if "ChecksumCRC32" in copied:
                part["ChecksumCRC32"] = copied["ChecksumCRC32"]
                crc = from_text(copied["ChecksumCRC32"])
            else:  # S3 always returns it; emulators do not
                crc = crc32_of(self._pieces(key, start, size, etag))
            self._parts.append(part)
            self._crc = combined(self._crc, crc, size)
            self._size += size
            start, length = start + size, length - size
        self._write_from(key, start, length, etag)

    def _flush(self) -> None:
        if self._buffer:
            self._upload_part(bytes(self._buffer))
            self._buffer.clear()

    def _upload_part(self, body: bytes) -> None:
        number, crc = len(self._parts) + 1, zlib.crc32(body)
        answer = self._s3.upload_part(
            Bucket=self._objects.bucket,
            Key=self._key,
            UploadId=self._started(),
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm=CHECKSUM,
            ChecksumCRC32=to_text(crc),
        )
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": to_text(crc)})
        self._crc = combined(self._crc, crc, len(body))

    def _started(self) -> str:
        if self._upload_id is None:
            answer = self._s3.create_multipart_upload(
                Bucket=self._objects.bucket,
                Key=self._key,
                ContentType=self._content_type,
                ChecksumAlgorithm=CHECKSUM,
                ChecksumType="FULL_OBJECT",
            )
            self._upload_id = answer["UploadId"]
        return self._upload_id
