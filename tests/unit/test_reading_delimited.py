"""CSV: the same rows wherever the borders fall, equal to the csv module's, and what is refused."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backhaul.model.errors import InvalidProcessor, UnsuitableInput
from backhaul.reading import Chunk, Csv, Record, Window
from tests.sources import MemorySource, read_all, read_at_once
from tests.tracing import untraced

BOM = b"\xef\xbb\xbf"

plain = st.text(st.sampled_from("ab é漢😀\u2028"), max_size=4)
awkward = st.text(st.sampled_from('a,"\n\r;é😀'), max_size=6)


@st.composite
def tables(draw, delimiter=","):
    """A CSV file with quoted fields full of quotes, delimiters and line breaks."""
    columns = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(plain | awkward, min_size=columns, max_size=columns), max_size=12))
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [delimiter.join(f"c{number}" for number in range(columns))]
    for row in rows:
        lines.append(delimiter.join(draw(written(field, delimiter, alone=columns == 1)) for field in row))
        lines.extend([""] * draw(st.sampled_from([0, 0, 0, 1])))
    text = ending.join(lines) + (ending if draw(st.booleans()) else "")
    return (BOM if draw(st.booleans()) else b"") + text.encode(), delimiter


@st.composite
def written(draw, field, delimiter, alone):
    must = any(mark in field for mark in f'{delimiter}"\n\r') or (alone and not field)
    return '"{}"'.format(field.replace('"', '""')) if must or draw(st.booleans()) else field


def by_csv_module(data, delimiter):
    text = data.decode("utf-8-sig")
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    return [dict(zip(header, row, strict=True)) for row in rows]


@settings(max_examples=1000, deadline=None)
@given(tables() | tables(delimiter=";"), st.integers(1, 40), st.integers(1, 6))
def test_rows_equal_the_csv_modules_wherever_the_borders_fall(table, chunk_bytes, per_shard):
    data, delimiter = table
    records = read_all(Csv(delimiter), data, chunk_bytes, per_shard)
    assert [record.value for record in records] == by_csv_module(data, delimiter)
    assert records == read_at_once(Csv(delimiter), data)


@pytest.mark.parametrize("inside", ["\n", "\r\n", "\r", ",", '""', '""\n""', '\n"",\n', '"",""\n""'])
def test_a_border_may_fall_on_every_byte_of_a_quoted_field(inside):
    data = f'a,b\n1,"{inside}"\n"{inside}x","y{inside}"\n3,4'.encode()
    expected = by_csv_module(data, ",")
    for chunk_bytes in range(1, len(data) + 1):
        assert [record.value for record in read_all(Csv(), data, chunk_bytes)] == expected


def test_a_record_says_where_its_row_lies():
    records = read_at_once(Csv(), BOM + b'a,b\r\n1,"\n"\r\n\r\n2,3')
    assert [(record.start, record.size, record.ending) for record in records] == [(8, 7, b"\r\n"), (17, 3, b"")]


def test_a_header_alone_has_no_rows():
    for data in (b"a,b", b"a,b\n", BOM + b"\r\na,b\r\n"):
        assert read_all(Csv(), data, 2) == []


def test_the_header_of_one_file_is_not_used_for_another():
    reader = Csv()
    first, second = MemorySource(b"a\n1\n"), MemorySource(b"b\n2\n")
    for source, value in ((first, {"a": "1"}), (second, {"b": "2"}), (first, {"a": "1"})):
        (record,) = reader.read(Window(source), Chunk(0, 0, 4))
        assert record.value == value


def test_a_field_may_be_longer_than_the_csv_modules_limit():
    data = b'a,b\n1,"' + b"x,\n" * 100_000 + b'"\n'
    (record,) = read_all(Csv(), data, 1000, 50)
    assert record.value == {"a": "1", "b": "x,\n" * 100_000}


@pytest.mark.parametrize(
    ("row", "offset", "said"),
    [
        (b'1,5" pipe', 3, "a quote inside an unquoted field"),
        (b'1,5" x 7" pipe', 3, "a quote inside an unquoted field"),
        (b'1,"2"3', 5, "text after a closing quote"),
        (b'"1" ,2', 3, "text after a closing quote"),
        ('é,"2"3'.encode(), 6, "text after a closing quote"),
        (b"1,2\r3,4", 3, "a carriage return without a line feed"),
        (b'1,"2"\r3', 5, "a carriage return without a line feed"),
        (b"1", 0, "has 1 fields, but the header names 2"),
        (b"1,2,3", 0, "has 3 fields, but the header names 2"),
        (b'1,"2', 2, "a quoted field that is never closed"),
        (b'1,"2""', 2, "a quoted field that is never closed"),
        (b"1,\xff", 2, "not UTF-8: byte 0xff"),
        (b"1,\0", 2, "NUL byte"),
    ],
)
def test_a_row_without_one_meaning_is_refused_with_its_position(row, offset, said):
    before = b'a,b\n"x\ny",z\n'
    for chunk_bytes in (1, 7, 1000):
        with pytest.raises(UnsuitableInput, match=said) as caught:
            read_all(Csv(), before + row + b"\n", chunk_bytes)
        assert caught.value.position == len(before) + offset


@pytest.mark.parametrize(
    ("header", "position", "said"),
    [
        (b"a,b,a\n", 0, "repeats 'a'"),
        (b'a,"a"\n', 0, "repeats 'a'"),
        (b"a,,c\n", 0, "without a name"),
        (BOM + b"a,\n", 3, "without a name"),
        (b"\n\n", 1, "without a name"),
        (b'a,b"\n', 3, "a quote inside an unquoted field"),
        ("a,b\n".encode("utf-16"), 0, "UTF-16"),
        ("a,b\n".encode("utf-16-le"), 1, "NUL"),
    ],
)
def test_a_bad_header_is_refused_when_splitting(header, position, said):
    with pytest.raises(UnsuitableInput, match=said) as caught:
        list(Csv().split(MemorySource(header), 1000))
    assert caught.value.position == position


def test_a_quote_that_is_never_closed_is_found_when_splitting():
    source = MemorySource(b'a,b\n"1",2\n3,"4\n' + b"5,6\n" * 1000)
    with pytest.raises(UnsuitableInput, match="a quoted field that is never closed") as caught:
        list(Csv().split(source, 100))
    assert caught.value.position == 12


def fault_of(data, **limits):
    source = MemorySource(data)
    with pytest.raises(UnsuitableInput) as caught:
        list(Csv(**limits).split(source, 1024 * 1024))
    return caught.value, source.bytes_asked_for - len(data)


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
@pytest.mark.parametrize("row", [b'1,"some ""quoted"" words"\n', b'1,"two\nlines"\n', b'1,2\n3,"\n"\n5,6\n'])
@untraced
def test_the_row_of_a_stray_quote_is_found_without_reading_a_large_file_again(share, row):
    rows = [row] * (16_000_000 // len(row))
    at = int(len(rows) * share)
    rows[at] = b'1,5" pipe\n'
    fault, read_again = fault_of(b"a,b\n" + b"".join(rows), max_record_bytes=1000)
    begin = 4 + at * len(row)
    assert fault.position in (begin, begin + 3)
    assert f"begins at byte {begin} " in str(fault)
    assert read_again < 8_000_000


@untraced
def test_a_quote_that_is_never_closed_is_found_in_a_large_file_without_others():
    before = b"a,b\n" + b"1,2\n" * 1_000_000 + b"3,"
    fault, _ = fault_of(before + b'"4\n' + b"5,6\n" * 1_000_000)
    assert fault.position == len(before)
    assert "a quoted field that is never closed" in str(fault)


def test_where_halving_is_led_astray_the_last_quote_is_named():
    # No row begins for nine megabytes, though the field is as it should be.
    before = b'a,b\n1,"' + b'""x' * 3_000_000 + b'"\n3,'
    fault, _ = fault_of(before + b'"4\n')
    assert fault.position == len(before)
    assert (
        f"odd number of quotes, so the last one begins a quoted field that is never closed, at position {len(before)}"
        in str(fault)
    )


@settings(max_examples=300, deadline=None)
@given(tables(), st.data())
def test_a_file_with_a_quote_too_many_is_always_refused(table, data):
    content, _ = table
    at = data.draw(st.integers(len(content.partition(b"\n")[0]), len(content)))
    with pytest.raises(UnsuitableInput):
        read_all(Csv(), content[:at] + b'"' + content[at:], data.draw(st.integers(1, 40)))


def test_a_header_that_repeats_thousands_of_names_is_refused_in_a_short_sentence():
    names = [f"{'n' * 50}{number}" for number in range(1000)]
    fault, _ = fault_of(",".join(names * 2).encode())
    assert "and 995 more; give every column its own name" in str(fault)
    assert len(str(fault)) < 400


def test_a_row_longer_than_allowed_is_refused_with_its_position():
    with pytest.raises(UnsuitableInput, match="perhaps a quote in it is never closed") as caught:
        read_at_once(Csv(max_record_bytes=20), b'a,b\n1,"' + b"x\n" * 20 + b'"\n')
    assert caught.value.position == 4


def test_a_delimiter_is_one_ordinary_character():
    assert read_at_once(Csv("\t"), b"a\tb\n1\t2\n")[0].value == {"a": "1", "b": "2"}
    assert read_at_once(Csv("|"), b'a|b\n1|"|"\n')[0].value == {"a": "1", "b": "|"}
    for delimiter in ("", ",,", '"', "\n", "é"):
        with pytest.raises(ValueError, match="delimiter"):
            Csv(delimiter)


def test_results_are_written_one_to_a_line():
    record = Record(0, 4, {}, ending=b"\r\n")
    assert Csv().encode({"a": "é"}, record) == '{"a":"é"}\n'.encode()
    assert Csv().encode([1], record) == b"[1]\n"
    assert Csv().encode("x", record) == Csv().encode(b"x", record) == b"x\n"
    with pytest.raises(InvalidProcessor, match="not float"):
        Csv().encode(1.5, record)
