"""A window on an input: how it moves, and what its requests cost."""

from contextlib import closing

import pytest

from backhaul.model.errors import InvalidProcessor
from backhaul.reading import Bytes, Chunk, FileSource, Lines, Record, Window
from backhaul.reading.window import LOOKAHEAD
from tests.sources import MemorySource, read_all, read_chunks

MIB = 1024 * 1024


def test_a_shard_of_short_lines_costs_one_request():
    source = MemorySource(b"a line of text\n" * 40_000)
    chunks = list(Lines().split(source, 50_000))[2:9]
    source.opened.clear()
    assert read_chunks(Lines(), source, chunks)
    assert source.opened == [(chunks[0].start - 1, chunks[-1].end + LOOKAHEAD)]


def test_the_request_ends_with_the_input():
    source = MemorySource(b"a\nb\n")
    read_chunks(Lines(), source, [Chunk(0, 0, 4)])
    assert source.opened == [(0, 4)]


def test_a_record_far_beyond_the_shard_is_fetched_in_growing_ranges():
    source = MemorySource(b"x" * (10 * MIB) + b"\n" + b"y" * MIB)
    (record,) = read_chunks(Lines(), source, [Chunk(0, 0, 1000)])
    assert record.size == 10 * MIB + 1
    assert len(source.opened) < 10
    assert all(before[1] == after[0] for before, after in zip(source.opened, source.opened[1:], strict=False))


def test_moving_before_the_first_read_costs_nothing():
    source = MemorySource(b"0123456789")
    with closing(Window(source, 5)) as window:
        window.seek(2)
        window.seek(4)
        assert window.read(3) == b"456"
    assert source.opened == [(4, 10)]


def test_a_short_way_ahead_is_read_through_and_elsewhere_is_a_new_request():
    source = MemorySource(bytes(range(256)) * 16 * 1024)
    with closing(Window(source)) as window:
        window.read(1)
        window.seek(256 * 3)
        assert (window.read(1), window.position) == (b"\x00", 769)
        assert len(source.opened) == 1
        window.seek(256 * 10_000 + 5)
        assert window.read(1) == b"\x05"
        window.seek(7)
        assert (window.read(2), window.position) == (b"\x07\x08", 9)
        assert len(source.opened) == 3


def test_reading_stops_at_the_end_of_the_input_and_not_of_the_window():
    with closing(Window(MemorySource(b"abc\ndef"), 0, 2)) as window:
        assert [window.readline(9), window.readline(2), window.readline(9), window.readline(9)] == [
            b"abc\n", b"de", b"f", b"",
        ]  # fmt: skip
        assert window.read(5) == b""


def test_a_source_that_breaks_off_is_no_end_of_the_input():
    class Broken(MemorySource):
        @property
        def size(self) -> int:
            return len(self.data) + 5

        def open(self, start, end):
            return super().open(start, min(end, len(self.data)))

    with pytest.raises(OSError, match="ended at byte 4 of 9"):
        read_all_of(Broken(b"a\nb\n"))


def read_all_of(source):
    return read_chunks(Lines(), source, [Chunk(0, 0, source.size)])


def test_a_file_gives_exactly_the_range_that_is_asked_for(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    source = FileSource(path)
    assert source.size == 10
    with closing(source.open(3, 7)) as stream:
        assert stream.read() == b"3456"
    with closing(source.open(8, 10)) as stream:
        assert (stream.read(1), stream.read(5), stream.read(5)) == (b"8", b"9", b"")


def test_chunks_as_bytes_are_the_file_again():
    data = bytes(range(256)) * 10
    records = read_all(Bytes(), data, 100, 7)
    assert [record.size for record in records] == [100] * 25 + [60]
    assert b"".join(Bytes().encode(record.value, record) for record in records) == data


def test_a_result_for_a_chunk_of_bytes_is_bytes():
    with pytest.raises(InvalidProcessor, match="Return bytes for what Bytes reads, not str"):
        Bytes().encode("text", Record(0, 1, b"x"))
