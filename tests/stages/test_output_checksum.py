"""An output's checksum: named from the first request to the last, checked by S3, and told in the receipt."""

import base64
import random
import zlib

import pytest
from botocore.client import BaseClient

from backhaul.model.errors import StoreUnavailable
from backhaul.model.job import JobState
from backhaul.stages import merge as merges
from backhaul.store import OutputWriter
from backhaul.store import output as output_rules
from backhaul.store.crc32 import to_text

MIB = 1024**2


@pytest.fixture
def asked(monkeypatch):
    """Every request that botocore has validated and sent, and what was answered; `answers` may change that first."""
    real, requests = BaseClient._make_api_call, []

    def recorded(self, name, request):
        given = dict(request)  # botocore makes a stream of a body
        answer = real(self, name, request)
        for change in recorded.answers:
            change(name, request, answer)
        requests.append((name, given, answer))
        return answer

    recorded.answers = []
    monkeypatch.setattr(BaseClient, "_make_api_call", recorded)

    def requests_of(name):
        return [(request, answer) for each, request, answer in requests if each == name]

    return requests_of, recorded.answers


@pytest.fixture
def source(deployment):
    data = random.Random(3).randbytes(15 * MIB)
    deployment.store.objects.put("source", data)
    return data


def written(deployment, source):
    """An output of two parts that were sent and one that was copied."""
    with OutputWriter(deployment.store.objects, "out", "text/plain") as output:
        output.write(source[: 6 * MIB])
        output.append("source", 0, len(source))
        output.write(b"end")
        return output.close(), output.crc32, source[: 6 * MIB] + source + b"end"


def test_an_upload_in_parts_names_its_checksum_from_beginning_to_end(deployment, source, asked):
    requests_of, _ = asked
    ref, crc32, expected = written(deployment, source)
    assert crc32 == base64.b64encode(zlib.crc32(expected).to_bytes(4)).decode()
    ((begun, _),) = requests_of("CreateMultipartUpload")
    ((completed, _),) = requests_of("CompleteMultipartUpload")
    assert (begun["ChecksumAlgorithm"], begun["ChecksumType"]) == ("CRC32", "FULL_OBJECT")
    assert completed["ChecksumType"] == "FULL_OBJECT"
    assert len(requests_of("UploadPartCopy")) == 1
    parts = {each["PartNumber"]: each for each in completed["MultipartUpload"]["Parts"]}
    for request, _ in requests_of("UploadPart"):
        assert (request["ChecksumAlgorithm"], request["ChecksumCRC32"]) == (
            "CRC32",
            to_text(zlib.crc32(request["Body"])),
        )
        assert parts[request["PartNumber"]]["ChecksumCRC32"] == request["ChecksumCRC32"]
    head = deployment.s3.head_object(Bucket="data", Key="out", VersionId=ref.version_id, ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == crc32
    # Whoever downloads it with an AWS SDK has it checked without asking.
    got = deployment.s3.get_object(Bucket="data", Key="out", VersionId=ref.version_id, ChecksumMode="ENABLED")
    assert got["Body"].read() == expected


def test_what_s3_says_of_a_copied_part_is_believed_and_handed_back(deployment, source, asked, monkeypatch):
    requests_of, answers = asked

    def as_s3(name, request, answer):
        if name == "UploadPartCopy":
            first, last = map(int, request["CopySourceRange"].removeprefix("bytes=").split("-"))
            answer["CopyPartResult"]["ChecksumCRC32"] = to_text(zlib.crc32(source[first : last + 1]))

    answers.append(as_s3)
    _, crc32, expected = written(deployment, source)
    assert crc32 == to_text(zlib.crc32(expected))
    ((_, copied),) = requests_of("UploadPartCopy")
    ((completed, _),) = requests_of("CompleteMultipartUpload")
    named = {each["ChecksumCRC32"] for each in completed["MultipartUpload"]["Parts"] if "ChecksumCRC32" in each}
    assert copied["CopyPartResult"]["ChecksumCRC32"] in named
    assert len(requests_of("GetObject")) == 0, "what S3 copies is not read"


def test_an_output_that_s3_puts_together_wrongly_is_none(deployment, source, asked):
    _, answers = asked

    def wrong(name, _, answer):
        if name == "CompleteMultipartUpload":
            answer |= {"ChecksumType": "FULL_OBJECT", "ChecksumCRC32": "AAAAAA=="}

    answers.append(wrong)
    with pytest.raises(StoreUnavailable, match="wrongly"):
        written(deployment, source)


@pytest.mark.parametrize("processor", ["redact", "text-stats"], ids=["joined", "reduced"])
def test_the_receipt_tells_the_checksum_of_the_output(deployment, processor):
    job = deployment.run(processor, b"one a@b.example\n" * 50)
    output = deployment.read(job.output)
    checksum = {"algorithm": "CRC32", "value": to_text(zlib.crc32(output))}
    assert deployment.receipt(job)["output_checksum"] == checksum
    head = deployment.s3.head_object(
        Bucket="data", Key=job.output.key, VersionId=job.output.version_id, ChecksumMode="ENABLED"
    )
    assert head["ChecksumCRC32"] == checksum["value"]


def test_the_receipt_of_an_output_in_parts_tells_that_of_the_whole(deployment, monkeypatch):
    for name in ("MIN_PART", "PART_WRITTEN", "COPY_GAIN"):
        monkeypatch.setattr(output_rules, name, getattr(output_rules, name) // 1024)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 5 * 1024)
    monkeypatch.setattr(merges, "READ_BYTES", 16 * 1024)
    job = deployment.run("redact", b"one a@b.example\n" * 4000, options={"chunk_bytes": 20_000})
    output = deployment.read(job.output)
    assert deployment.receipt(job)["output_checksum"]["value"] == to_text(zlib.crc32(output))


def test_a_receipt_without_an_output_tells_no_checksum(deployment):
    job = deployment.run("text-stats", b"fine\nnot\0fine\n")
    assert (job.state, deployment.receipt(job)["output_checksum"]) == (JobState.FAILED, None)
