"""A look at a file: all of it, or pieces from all of it, through the processor's own reader."""

import ast
import csv
import io
import json
import math
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backhaul import Bytes, Csv, JsonLines, Lines, Processor
from backhaul.estimate import sampling
from backhaul.estimate.sampling import TextSource, expects_calls, look_at
from backhaul.model.errors import CannotEstimate, UnsuitableInput
from backhaul.plugin.processor import Expected
from backhaul.providers import estimate_tokens
from backhaul.reading import Chunk

PROJECT = Path(__file__).parents[2]
BATCH = 16


class Counting(Processor):
    """Expect a call for every record that is not empty, and one for every sixteen of another provider."""

    name = "counting"
    reads = Lines()

    def process(self, record, ctx):
        return record

    def text(self, record):
        return record

    def expect(self, records):
        texts = [text for text in map(self.text, records) if text.strip()]
        yield Expected("chat", len(texts), sum(map(estimate_tokens, texts)))
        yield Expected("vectors", math.ceil(len(texts) / BATCH), sum(map(estimate_tokens, texts)))


class CountingRows(Counting):
    name = "counting-rows"
    reads = Csv()

    def text(self, record):
        return record["text"]


class CountingBytes(Counting):
    name = "counting-bytes"
    reads = Bytes()

    def text(self, record):
        return record.decode(errors="replace")


def english() -> bytes:
    return b"".join(path.read_bytes() for path in [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))])


def source() -> bytes:
    return b"".join(path.read_bytes() for path in sorted((PROJECT / "backhaul").rglob("*.py")))


def table() -> bytes:
    written = io.StringIO()
    rows = csv.writer(written)
    rows.writerow(["module", "text"])
    for path in sorted((PROJECT / "backhaul").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node)):
                rows.writerow([path.stem, said])
    return written.getvalue().encode()


def looked(processor, data, **options):
    return look_at(partial(processor, processor.Options(**options)), TextSource(data))


@pytest.fixture
def samples(monkeypatch):
    """Let a quarter of a file be read, in small pieces."""

    def small(data, piece=2048):
        monkeypatch.setattr(sampling, "READ_WHOLE", 0)
        monkeypatch.setattr(sampling, "SAMPLE_BYTES", len(data) // 4)
        monkeypatch.setattr(sampling, "PIECE_BYTES", piece)

    return small


@pytest.mark.parametrize(("processor", "text"), [(Counting, english), (Counting, source), (CountingRows, table)])
@pytest.mark.parametrize("piece", [512, 2048])
def test_a_quarter_of_a_real_text_tells_calls_and_tokens_within_a_fifth(samples, processor, text, piece):
    data = text()
    whole = looked(processor, data, chunk_bytes=8192)
    samples(data, piece)
    part = looked(processor, data, chunk_bytes=8192)
    assert whole.chunks == part.chunks
    assert whole.sampled.error == 0 < part.sampled.error < 0.2
    assert 0.2 < part.sampled.bytes / len(data) < 0.3
    scale = len(data) / part.sampled.bytes
    assert part.sampled.records * scale == pytest.approx(whole.sampled.records, rel=0.2)
    for found, real in zip(part.sampled.calls, whole.sampled.calls, strict=True):
        assert found.calls * scale == pytest.approx(real.calls, rel=0.2), real.provider
        assert found.input_tokens * scale == pytest.approx(real.input_tokens, rel=0.2), real.provider


def test_the_same_file_is_sampled_in_the_same_places(samples):
    data = source()
    samples(data)
    assert looked(Counting, data) == looked(Counting, data)


def test_what_is_read_of_a_large_file_is_little_and_from_all_of_it(monkeypatch):
    monkeypatch.setattr(sampling, "READ_WHOLE", 64 * 1024)
    monkeypatch.setattr(sampling, "SAMPLE_BYTES", 32 * 1024)
    monkeypatch.setattr(sampling, "PIECE_BYTES", 1024)
    starts = []

    class Noting(Lines):
        def read(self, window, chunk):
            starts.append(chunk.start)
            return super().read(window, chunk)

    class Noted(Counting):
        reads = Noting()

    data = b"0123456789\n" * 100_000
    done = []
    look = look_at(partial(Noted, Noted.Options()), TextSource(data), done.append)
    assert look.sampled.bytes == done[-1] == 32 * 1024
    assert done == sorted(done)
    assert [round(32 * start / len(data)) for start in starts] == pytest.approx(range(32), abs=1)
    assert look.sampled.error < 0.05


def test_a_record_of_bytes_is_a_chunk_however_large_it_is(samples):
    data = b"x" * 100_000
    samples(data)
    look = looked(CountingBytes, data, chunk_bytes=5000)
    assert (look.chunks, look.sampled.records, look.sampled.bytes) == (20, 5, 25_000)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_every_record_of_a_small_file_is_looked_at_once(data, chunk_bytes):
    try:
        expected = len(data.decode().replace("\r\n", "\n").rstrip("\n").split("\n"))
        whole = looked(Counting, data, chunk_bytes=300)
    except (UnicodeDecodeError, UnsuitableInput):
        with pytest.raises(UnsuitableInput):
            looked(Counting, data, chunk_bytes=chunk_bytes)
        return
    look = looked(Counting, data, chunk_bytes=chunk_bytes)
    assert look.sampled.records == whole.sampled.records
    assert look.sampled.bytes == len(data)
    assert look.chunks == math.ceil(len(data) / chunk_bytes)
    assert look.sampled.calls[0] == whole.sampled.calls[0]
    assert expected <= look.sampled.records + data.count(b"\n")


def test_a_processor_that_cuts_a_file_wrongly_is_told_so():
    class Half(Counting):
        def split(self, source, chunk_bytes):
            yield Chunk(0, 0, source.size // 2)

    with pytest.raises(CannotEstimate, match="byte 5 of 10"):
        looked(Half, b"0123456789")


def test_a_file_that_is_not_what_the_processor_reads_is_refused():
    class CountingJson(Counting):
        reads = JsonLines()

    with pytest.raises(UnsuitableInput, match="not JSON"):
        looked(CountingJson, b"{}\n{\n")


def test_only_who_says_what_it_expects_calls_anybody():
    class Free(Counting):
        expect = Processor.expect

    assert expects_calls(Counting(Counting.Options()))
    assert not expects_calls(Free(Free.Options()))
    assert looked(Free, b"one\ntwo\n").sampled.calls == ()


def test_what_is_sent_of_a_file_is_counts():
    sent = looked(Counting, b"one\ntwo\n").to_json()
    nothing = {"output_tokens": 0, "max_output_tokens": 0}
    assert json.loads(msgspec.json.encode(sent)) == {
        "bytes": 8,
        "records": 2,
        "chunks": 1,
        "error": 0,
        "calls": [
            {"provider": "chat", "calls": 2, "input_tokens": 2} | nothing,
            {"provider": "vectors", "calls": 1, "input_tokens": 2} | nothing,
        ],
    }
