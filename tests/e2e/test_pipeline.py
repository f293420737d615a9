"""Files through the deployed pipeline, compared with the same work done in one piece."""

import io
import json
import random
import re
import zlib
from functools import partial

import httpx
import jsonschema
import pytest

from backhaul.model.errors import RequestRefused
from backhaul.model.job import JobState
from backhaul.plugin.registry import find_processors
from backhaul.reading import FileSource
from backhaul.store.crc32 import to_text
from backhaul.trial.trial import trial
from scripts.subscriber import subscription
from tests.e2e.support import PROJECT, admin_client, ask, run_job, trusted
from tests.tracing import untraced

MIB = 1024**2


def jsonl(size: int) -> bytes:
    """Return JSON Lines of about this size, with characters of one to four bytes."""
    source = random.Random(7)
    words = ["größe", "日本語", "🙂🙃", "plain", "a@b.example", "10.1.2.3", "+1 415 555 2671", "naïve", "x" * 90]
    block = b"".join(
        json.dumps({"id": number, "text": " ".join(source.choices(words, k=12))}, ensure_ascii=False).encode() + b"\n"
        for number in range(5000)
    )
    return block * -(-size // len(block))


INPUTS = {
    "one byte": b"x",
    "one line without newline": "ein Satz ohne Ende, größer als nichts".encode(),
    "CRLF": b"one\r\ntwo a@b.example\r\n\r\nfour\rstill four\r\n",
    "byte-order mark": "\ufefffirst line\nsecond a@b.example\n".encode(),
    "only newlines": b"\n" * 10_000,
    "CSV": b'id,"text"\r\n1,"a ""quoted"", field\r\nwith a@b.example"\r\n' * 9000,
}


def independent_stats(data: bytes, top: int = 20) -> dict[str, object]:
    text = data.decode("utf-8-sig")
    pieces = text.split("\n")
    lines = pieces[:-1] + ([pieces[-1]] if pieces[-1] else [])
    ended = [line.removesuffix("\r") for line in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    counts: dict[str, int] = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return {
        "lines": len(lines),
        "words": sum(counts.values()),
        "characters": len(text),
        "bytes": len(data),
        "longest_line": max((len(line) for line in ended), default=0),
        "top_words": [list(pair) for pair in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:top]],
    }


@untraced
def in_one_process(processor: str, path) -> bytes:
    output = io.BytesIO()
    trial(partial(find_processors().create, processor), FileSource(path), output)
    return output.getvalue()


@pytest.mark.parametrize("name", INPUTS)
def test_a_small_file_is_processed_exactly(client, tmp_path, name):
    path = tmp_path / "input"
    path.write_bytes(INPUTS[name])
    _, stats = run_job(client, path, "text-stats")
    assert json.loads(stats) == independent_stats(INPUTS[name])
    _, redacted = run_job(client, path, "redact", {"chunk_bytes": 65_536})
    assert redacted == in_one_process("redact", path)


@untraced
def test_a_line_of_30_megabytes_is_processed_exactly(client, tmp_path):
    data = ("wörd a@b.example " * 1_700_000).encode()[: 30 * MIB] + b"x"
    path = tmp_path / "input"
    path.write_bytes(data)
    _, stats = run_job(client, path, "text-stats", {"chunk_bytes": MIB})
    assert json.loads(stats) == independent_stats(data)
    _, redacted = run_job(client, path, "redact", {"chunk_bytes": MIB})
    assert redacted == in_one_process("redact", path)


@pytest.mark.parametrize(("processor", "chunk_bytes"), [("text-stats", MIB), ("redact", 8 * MIB)])
@untraced
def test_100_megabytes_of_multi_byte_json_lines_are_processed_exactly(client, tmp_path, processor, chunk_bytes):
    data = jsonl(100_000_000)
    path = tmp_path / "input.jsonl"
    path.write_bytes(data)
    job, output = run_job(client, path, processor, {"chunk_bytes": chunk_bytes})
    assert job.counts.chunks == -(-len(data) // chunk_bytes)
    if processor == "text-stats":
        assert json.loads(output) == independent_stats(data)
    else:
        assert output == in_one_process(processor, path)


def test_the_receipt_tells_the_checksum_of_an_output_of_which_parts_were_copied(client, cloud, tmp_path):
    path, receipt = tmp_path / "input.jsonl", io.BytesIO()
    path.write_bytes(jsonl(30_000_000))
    job, output = run_job(client, path, "redact", {"chunk_bytes": 10 * MIB})
    client.fetch(client.receipt(job.job_id), receipt)
    told = json.loads(receipt.getvalue())
    assert told["output_checksum"] == {"algorithm": "CRC32", "value": to_text(zlib.crc32(output))}
    stored = admin_client(cloud, "s3").head_object(
        Bucket=cloud.outputs["DataBucketName"], Key=told["output"]["key"], VersionId=told["output"]["version_id"]
    )
    assert stored["ContentLength"] == len(output)
    assert re.search(r"-[2-9]\W*$", stored["ETag"]), "it was put together from parts"


def test_a_plug_in_from_the_users_folder_runs_deployed(client, tmp_path):
    path = tmp_path / "input.txt"
    path.write_text("straße\nsecond\n" * 50_000)
    assert "shout" in {each.name for each in client.processors()}
    _, output = run_job(client, path, "shout")
    assert output.decode() == path.read_text().upper()


def test_a_subscriber_receives_each_change_once_and_each_fits_the_schema(cloud, client, tmp_path):
    schema = json.loads((PROJECT / "docs/schemas/job-event.v1.json").read_text())
    path = tmp_path / "input.txt"
    path.write_text("one two\n" * 1000)
    with subscription(cloud, seconds=25) as events:
        job, _ = run_job(client, path, "text-stats")
        mine = [event for event in events if event["detail"]["job_id"] == job.job_id]
    for event in mine:
        jsonschema.validate(event["detail"], schema)
        assert event["source"] == "backhaul"
    by_id = {event["detail"]["event_id"]: event["detail-type"] for event in mine}
    assert sorted(by_id.values()) == ["Job Queued", "Job Started", "Job Succeeded"]
    assert len({event["detail"]["output"]["key"] for event in mine if event["detail"]["output"]}) == 1


@pytest.mark.parametrize(
    ("data", "position"),
    [("wide\n".encode("utf-16"), 0), (b"line\n" * 60_000 + b"caf\xe9\n", 300_003), (b"fine\nnot\0fine\n", 8)],
    ids=["UTF-16", "invalid UTF-8", "NUL"],
)
def test_a_file_that_is_no_text_fails_with_the_position(client, tmp_path, data, position):
    path = tmp_path / "input"
    path.write_bytes(data)
    job, output = run_job(client, path, "text-stats", {"chunk_bytes": 65_536}, ends=JobState.FAILED)
    assert output is None
    assert (job.cause.code, job.cause.position) == ("unsuitable_input", position)


def test_requests_that_cannot_work_are_refused_before_the_upload(client, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"x")
    for processor, options, told in [
        ("nope", {}, "text-stats"),
        ("text-stats", {"tip": 3}, "top"),
        ("text-stats", {"top": "many"}, "top"),
    ]:
        with pytest.raises(RequestRefused, match=told) as refused:
            client.submit(path, processor, options)
        assert refused.value.status == 400


def test_s3_refuses_an_upload_of_another_size_or_key(cloud):
    body = {"processor": "text-stats", "file_name": "x", "size": 10}
    form = ask(cloud, "POST", "/jobs", json=body).json()["upload"]
    for sent in (b"x" * 11, b"", b"x" * 9):
        answer = httpx.post(form["url"], data=form["fields"], files={"file": sent}, verify=trusted(cloud))
        assert answer.status_code == 400, answer.text
    elsewhere = {**form["fields"], "key": form["fields"]["key"].replace("/input/", "/output/")}
    answer = httpx.post(form["url"], data=elsewhere, files={"file": b"x" * 10}, verify=trusted(cloud))
    assert answer.status_code == 403


@pytest.mark.parametrize("size", [0, -1, 5 * 1024**3 + 1])
def test_a_file_of_a_size_that_cannot_be_is_refused_before_the_upload(cloud, size):
    answer = ask(cloud, "POST", "/jobs", json={"processor": "text-stats", "file_name": "x", "size": size})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
