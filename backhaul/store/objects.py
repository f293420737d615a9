"""Objects in S3: presigned transfers, pinned reads, results and receipts."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal, cast
from urllib.parse import quote

from botocore.exceptions import ClientError

from backhaul.model import keys
from backhaul.model.errors import DamagedResult, StoreRefused
from backhaul.model.job import Job, ObjectRef
from backhaul.store.body import ResumingBody

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

CONTENT_TYPE = "application/octet-stream"
_SKIP_BYTES = 1024**2
_NOT_THE_ONE = frozenset({"NoSuchKey", "PreconditionFailed"})
CHECKSUM: Literal["CRC32"] = "CRC32"
"""The checksum algorithm of all objects that Backhaul writes. S3 can combine the CRC-32s of parts into that of the
whole object, which SHA-256 does not allow; and every language has a library with which a caller can check a download.
"""


@dataclass(frozen=True)
class PresignedUpload:
    """A form with which a caller uploads exactly one file to exactly one key, until it expires."""

    url: str
    fields: dict[str, str]


@dataclass(frozen=True)
class Orphan:
    """A multipart upload that no worker will complete."""

    key: str
    upload_id: str
    initiated: datetime | None = None


class S3Source:
    """A pinned input: every read names the object's version, so that an overwrite changes nothing."""

    def __init__(self, objects: ObjectStore, ref: ObjectRef) -> None:
        self._objects = objects
        self._ref = ref

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._ref.size

    def open(self, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end)."""
        return self._objects.open(self._ref, start, end)


class ObjectStore:
    """The data bucket of one deployment."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    def presign_upload(self, job: Job, *, seconds: int) -> PresignedUpload:
        """Return a form that takes only the job's file: it fixes the key, the size and the SHA-256, if declared."""
        fields = {"Content-Type": "application/octet-stream"}
        if job.declared_sha256 is not None:
            fields["x-amz-checksum-algorithm"] = "SHA256"
            fields["x-amz-checksum-sha256"] = _base64_of(job.declared_sha256)
        answer = self.client.generate_presigned_post(
            Bucket=self.bucket,
            Key=keys.input_key(job.ref),
            Fields=dict(fields),
            Conditions=[
                ["content-length-range", job.declared_size, job.declared_size],
                *({name: value} for name, value in fields.items()),
            ],
            ExpiresIn=seconds,
        )
        return PresignedUpload(answer["url"], answer["fields"])

    def presign_download(self, ref: ObjectRef, *, file_name: str, seconds: int) -> str:
        """Return a URL that downloads the object until it expires."""
        return self.client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.bucket,
                "Key": ref.key,
                "VersionId": ref.version_id,
                "ResponseContentDisposition": f"attachment; filename*=UTF-8''{quote(file_name, safe='')}",
            },
            ExpiresIn=seconds,
        )

    def sha256_of(self, ref: ObjectRef) -> str:
        """Return an object's SHA-256 in hexadecimal: the one that S3 verified at upload, or else one of its bytes.

        Without a stored SHA-256 the whole object is read.
        """
        head = self.client.head_object(
            Bucket=self.bucket, Key=ref.key, VersionId=ref.version_id, ChecksumMode="ENABLED"
        )
        if head.get("ChecksumSHA256"):
            return base64.b64decode(head["ChecksumSHA256"]).hex()
        with self.open(ref, 0, ref.size) as body:
            return hashlib.file_digest(cast(io.RawIOBase, body), "sha256").hexdigest()

    def find(self, key: str) -> ObjectRef | None:
        """Return the current version of an object, or None if there is none."""
        try:
            head = self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            # S3 answers 403 instead of 404 for an absent key if the role may not list the bucket.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (403, 404):
                return None
            raise
        return ObjectRef(key, head["VersionId"], head["ContentLength"])

    def exists(self, ref: ObjectRef) -> bool:
        """Return whether the version exists; the role must be allowed to list the bucket, or S3 answers 403."""
        try:
            self.client.head_object(Bucket=self.bucket, Key=ref.key, VersionId=ref.version_id)
        except ClientError as error:
            # 400: S3 never gave out such a version ID. 405: the version is a delete marker.
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404, 405):
                return False
            raise
        return True

    def is_readable(self, ref: ObjectRef) -> bool:
        """Return whether the version exists and may be read; the role need not be allowed to list the bucket."""
        try:
            return self.exists(ref)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
                return False
            raise

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the keys that begin with the prefix, each with its object's size in bytes."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}

    def put(self, key: str, body: bytes, *, content_type: str = CONTENT_TYPE) -> ObjectRef:
        """Store an object in one request."""
        answer = self.client.put_object(
            Bucket=self.bucket, Key=key, Body=body, ContentType=content_type, ChecksumAlgorithm=CHECKSUM
        )
        return ObjectRef(key, answer["VersionId"], len(body))

    def put_result(self, key: str, body: bytes) -> str:
        """Store a result in one request; return its entity tag, which later reads and copies of it must name."""
        return self.client.put_object(
            Bucket=self.bucket, Key=key, Body=body, ContentType=CONTENT_TYPE, ChecksumAlgorithm=CHECKSUM
        )["ETag"]

    def open(self, ref: ObjectRef, start: int, end: int) -> BinaryIO:
        """Stream the bytes [start, end) of a version; after a broken connection it goes on at the same byte."""
        get = partial(self.client.get_object, Bucket=self.bucket, Key=ref.key, VersionId=ref.version_id)
        return _stream(get, start, end)

    def read(self, key: str, start: int, length: int, etag: str = "") -> bytes:
        """Return `length` bytes of a result, which is an object that is written only once.

        Raises `StoreUnavailable` if S3 does not give all of them, and `DamagedResult` if the object is not there or
        has another entity tag.
        """
        get = partial(self.client.get_object, Bucket=self.bucket, Key=key)
        get = partial(get, IfMatch=etag) if etag else get
        with knowing(key), _stream(get, start, start + length) as body:
            return io.BufferedReader(cast(io.RawIOBase, body)).read(length)

    def lines(self, ref: ObjectRef) -> Iterator[bytes]:
        """Yield all lines of a version without their line feeds; raises `StoreUnavailable` if S3 breaks off."""
        with self.open(ref, 0, ref.size) as body:
            for line in io.BufferedReader(cast(io.RawIOBase, body)):
                yield line.rstrip(b"\n")

    def orphans(self, before: datetime) -> Iterator[Orphan]:
        """Yield the multipart uploads of outputs that were begun before this time and never completed."""
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        for each in (each for page in pages for each in page.get("Uploads", [])):
            if each["Initiated"] < before and keys.is_output(each["Key"]):
                yield Orphan(each["Key"], each["UploadId"], each["Initiated"])

    def abort(self, orphan: Orphan) -> None:
        """Remove the parts of a multipart upload; one that no longer exists is no error."""
        with suppress(self.client.exceptions.NoSuchUpload):
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=orphan.key, UploadId=orphan.upload_id)


@contextmanager
def knowing(key: str) -> Iterator[None]:
    """Raise `DamagedResult` if S3 says in this block that the object is missing or has another entity tag."""
    try:
        yield
    except (ClientError, StoreRefused) as error:
        answer = error if isinstance(error, ClientError) else error.__cause__
        if isinstance(answer, ClientError) and answer.response["Error"]["Code"] in _NOT_THE_ONE:
            raise DamagedResult(key) from error
        raise


def _stream(get: Callable[..., GetObjectOutputTypeDef], start: int, end: int) -> BinaryIO:
    def open_at(position: int) -> BinaryIO:
        return _from(position, get(Range=f"bytes={position}-{end - 1}"))

    return cast(BinaryIO, ResumingBody(open_at, start, end))


def _from(position: int, answer: GetObjectOutputTypeDef) -> BinaryIO:
    """Return the answer's body from the requested byte on.

    A server may ignore a range and send everything (RFC 9110, section 14.2). So the answer's `Content-Range`
    decides how many bytes are skipped.
    """
    body = cast(BinaryIO, answer["Body"])
    said: str | None = answer.get("ContentRange")
    skip = position if said is None else position - int(said.removeprefix("bytes ").partition("-")[0])
    while skip > 0:
        skipped = len(body.read(min(skip, _SKIP_BYTES)))
        if not skipped:
            raise ConnectionResetError(f"the body ended {skip} bytes before the range that was asked for")
        skip -= skipped
    return body


def _base64_of(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
