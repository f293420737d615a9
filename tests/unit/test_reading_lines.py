"""Lines and JSON lines: the same records wherever the borders fall, and what is refused."""

import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backhaul.model.errors import InvalidProcessor, UnsuitableInput
from backhaul.reading import Chunk, JsonLines, Lines, Record, Window
from tests.sources import MemorySource, read_all, read_at_once, read_chunks

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"

pieces = st.sampled_from(["\n", "\r\n", "\r", "\r\r\n", "a", "é", "漢", "😀", "\u2028", "\ufeff", "word word", " "])
texts = st.builds(
    lambda bom, parts: (BOM if bom else b"") + "".join(parts).encode(), st.booleans(), st.lists(pieces, max_size=40)
)


def encoded(reader, records):
    return b"".join(reader.encode(record.value, record) for record in records)


@settings(max_examples=1000, deadline=None)
@given(data=texts, chunk_bytes=st.integers(1, 60), per_shard=st.integers(1, 7))
@example(data=BOM, chunk_bytes=1, per_shard=1)
@example(data=b"a\r\nb", chunk_bytes=2, per_shard=1)
def test_lines_are_the_same_wherever_the_borders_fall(data, chunk_bytes, per_shard):
    records = read_all(Lines(), data, chunk_bytes, per_shard)
    assert records == read_at_once(Lines(), data)
    assert encoded(Lines(), records) == data
    lines = re.findall(rb"[^\n]*\n|[^\n]+\Z", data)
    assert [record.size for record in records] == [len(line) for line in lines]
    plain = [re.sub(r"\r?\n\Z", "", line.decode()) for line in lines]
    if data.startswith(BOM):
        plain[0] = plain[0][1:]
    assert [record.value for record in records] == plain


def test_chunks_can_be_read_in_any_order_through_one_window():
    data = b"".join(b"line %d\n" % number for number in range(50))
    source = MemorySource(data)
    chunks = list(Lines().split(source, 10))
    expected = {chunk.index: read_chunks(Lines(), source, [chunk]) for chunk in chunks}
    order = [5, 6, 2, 3, 9, 8, 30, 0, 1, 31]
    found = read_chunks(Lines(), source, [chunks[index] for index in order])
    assert found == [record for index in order for record in expected[index]]


def test_a_chunk_whose_reading_was_broken_off_does_not_shift_the_next():
    source = MemorySource(b"one\ntwo\nthree\nfour\nfive\n")
    window = Window(source)
    next(Lines().read(window, Chunk(0, 0, 8)))
    assert [record.value for record in Lines().read(window, Chunk(1, 8, 24))] == ["three", "four", "five"]


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"x", [("x", b"", b"")]),
        (b"\n", [("", b"", b"\n")]),
        (b"\n\n", [("", b"", b"\n"), ("", b"", b"\n")]),
        (b"a\r\nb\rc\n", [("a", b"", b"\r\n"), ("b\rc", b"", b"\n")]),
        (b"a\r", [("a\r", b"", b"")]),
        (BOM, [("", BOM, b"")]),
        (BOM + b"a\n" + BOM + b"b", [("a", BOM, b"\n"), ("\ufeffb", b"", b"")]),
        ("a\u2028b\x0bc\x85\n".encode(), [("a\u2028b\x0bc\x85", b"", b"\n")]),
    ],
)
def test_only_lf_and_crlf_end_a_line(data, records):
    found = read_at_once(Lines(), data)
    assert [(record.value, record.prefix, record.ending) for record in found] == records


@pytest.mark.parametrize("character", ["é", "漢", "😀"])
def test_a_character_may_lie_across_any_border(character):
    data = f"{character * 5}\n{character}\n".encode()
    for chunk_bytes in range(1, len(data) + 1):
        assert [record.value for record in read_all(Lines(), data, chunk_bytes)] == [character * 5, character]


def test_a_giant_line_is_read_once_by_its_shard_and_skipped_by_the_others():
    data = b"x" * (30 * MIB) + b"\nshort\n"
    source = MemorySource(data)
    chunks = list(Lines().split(source, MIB))
    source.opened.clear()
    assert [record.size for record in read_chunks(Lines(), source, chunks)] == [30 * MIB + 1, 6]
    assert source.bytes_asked_for == len(data)
    source.opened.clear()
    assert read_chunks(Lines(), source, chunks[10:20]) == []
    assert source.bytes_asked_for < 11 * MIB


def test_a_line_longer_than_allowed_is_refused_with_its_position():
    reader = Lines(max_record_bytes=10)
    assert len(read_at_once(reader, b"123456789\n" * 3)) == 3
    for data in (b"short\n" + b"12345678901\n", b"short\n" + b"12345678901", b"short\n" + b"1" * 300_000):
        with pytest.raises(UnsuitableInput, match="begins at byte 6 is longer than 10 bytes") as caught:
            read_at_once(reader, data)
        assert caught.value.position == 6


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_other_encodings_with_a_mark_are_refused_when_splitting(encoding):
    source = MemorySource("\ufeffhello\n".encode(encoding))
    with pytest.raises(UnsuitableInput, match=r"UTF-(16|32) text .* convert it to UTF-8") as caught:
        list(Lines().split(source, 100))
    assert caught.value.position == 0


def test_splitting_reads_four_bytes():
    source = MemorySource(b"line\n" * MIB)
    assert len(list(Lines().split(source, 1000))) == 5243
    assert source.opened == [(0, 4)]


@pytest.mark.parametrize(
    ("data", "position", "said"),
    [
        (b"ok\nb\xffd\n", 4, r"byte 0xff at position 4, in the line that begins at 3"),
        (b"ok\nok\n\xc3", 6, r"byte 0xc3 at position 6"),
        (b"caf\xe9\n", 3, r"byte 0xe9 at position 3, in the line that begins at 0"),
        (b"\xed\xa0\x80", 0, r"not UTF-8"),
        (b"ok\nb\0d\n", 4, r"not text: NUL byte at position 4"),
        (BOM + b"a\0", 4, r"NUL byte at position 4"),
        ("hello\n".encode("utf-16-le"), 1, r"NUL byte at position 1"),
        ("hello\n".encode("utf-16-be"), 0, r"NUL byte at position 0"),
        (b"x" * 400_000 + b"\n\xff", 400_001, r"in the line that begins at 400001"),
    ],
)
def test_what_is_not_utf8_text_is_refused_with_its_position(data, position, said):
    for chunk_bytes in (2, 5, 1000) if len(data) < 100 else (MIB,):
        with pytest.raises(UnsuitableInput, match=said) as caught:
            read_all(Lines(), data, chunk_bytes)
        assert caught.value.position == position


def test_what_a_processor_returns_is_put_between_what_stood_around_the_line():
    record = Record(0, 6, "a", BOM, b"\r\n")
    assert Lines().encode("é", record) == BOM + b"\xc3\xa9\r\n"
    assert Lines().encode(b"\xff", record) == BOM + b"\xff\r\n"
    with pytest.raises(InvalidProcessor, match="not int"):
        Lines().encode(1, record)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(values, max_size=8), st.integers(1, 50), st.sampled_from(["\n", "\r\n", "\n \n"]), st.booleans())
def test_json_lines_are_the_same_wherever_the_borders_fall(items, chunk_bytes, ending, ascii_only):
    data = "".join(json.dumps(item, ensure_ascii=ascii_only) + ending for item in items).encode()
    records = read_all(JsonLines(), data, chunk_bytes, 3)
    assert [record.value for record in records] == items
    again = read_at_once(JsonLines(), encoded(JsonLines(), records))
    assert [record.value for record in again] == items


def test_u2028_may_stand_in_a_json_string():
    (record,) = read_at_once(JsonLines(), '{"a":"x\u2028y"}'.encode())
    assert record.value == {"a": "x\u2028y"}
    assert JsonLines().encode(record.value, record) == '{"a":"x\u2028y"}\n'.encode()


def test_blank_lines_between_json_values_are_skipped():
    records = read_at_once(JsonLines(), BOM + b'\n{"a":1}\r\n \t\r\n2\n\n')
    assert [(record.value, record.start, record.ending) for record in records] == [
        ({"a": 1}, 4, b"\r\n"),
        (2, 17, b"\n"),
    ]


@pytest.mark.parametrize(
    ("line", "offset", "said"),
    [
        (b'{"a": }', 6, "Expecting value"),
        ('{"é": }'.encode(), 7, "Expecting value"),
        (b"{'a': 1}", 1, "double quotes"),
        (b"1 2", 2, "Extra data"),
        (b"[NaN]", 0, "NaN is not a JSON value"),
        (b"[" * 100_000, 0, "nested too deeply"),
        (b"1" * 5000, 0, "digits"),
        ("\u2028".encode(), 0, "Expecting value"),
    ],
)
def test_bad_json_is_refused_with_its_position(line, offset, said):
    with pytest.raises(UnsuitableInput, match=rf"line that begins at byte 3 is not JSON: .*{said}") as caught:
        read_at_once(JsonLines(), b"{}\n" + line + b"\n")
    assert caught.value.position == 3 + offset


def test_half_a_surrogate_pair_survives_as_an_escape():
    (record,) = read_at_once(JsonLines(), b'"\\ud83d"\n')
    assert JsonLines().encode(record.value, record) == b'"\\ud83d"\n'


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", float("nan")])
def test_what_json_cannot_hold_is_the_processors_mistake(value):
    with pytest.raises(InvalidProcessor, match="cannot be written as JSON"):
        JsonLines().encode(value, Record(0, 1, 1))
