"""redact: what it replaces, what it leaves alone, and that every other byte stays."""

import io
import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backhaul import Context
from backhaul.model.errors import InvalidOption
from backhaul.plugin.context import RecordCursor
from backhaul.plugin.registry import find_processors
from backhaul.trial.trial import trial
from tests.sources import MemorySource
from tests.tracing import untraced

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"
registry = find_processors()
redactor = registry.create("redact")


def redact(text, **options):
    processor = registry.create("redact", options) if options else redactor
    return processor.process(text, Context())


def run(data, **options):
    output = io.BytesIO()
    tallies = trial(lambda: registry.create("redact", options), MemorySource(data), output).tallies
    return output.getvalue(), tallies


def redacted_at_once(data):
    """Redact line by line without any of the reading."""
    bom, text = (BOM, data[3:]) if data.startswith(BOM) else (b"", data)
    cursor = RecordCursor()
    ctx = Context(cursor)
    parts = re.split(r"(\r?\n)", text.decode())
    parts[::2] = [redactor.process(line, ctx) for line in parts[::2]]
    return bom + "".join(parts).encode(), dict(sorted(cursor.tallies.items()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mail bob.smith+x@example.co.uk.", "mail [EMAIL]."),
        ("<a@b.io>, o'brien@x.org; 'foo@x.com'", "<[EMAIL]>, [EMAIL]; '[EMAIL]'"),
        ("联系bob@example.com联系 x@bücher.de y@z.xn--p1ai", "联系[EMAIL]联系 [EMAIL] [EMAIL]"),
        ("1.2.3.4@example.com 555-123-4567@example.com", "[EMAIL] [EMAIL]"),
        ("10.0.0.1, 1.2.3.4:80 8.8.8.8. 10.0.0.0/8", "[IPV4], [IPV4]:80 [IPV4]. [IPV4]/8"),
        ("2001:db8::1 ::1 fe80::1%eth0 1:2:3:4:5:6:7:8", "[IPV6] [IPV6] [IPV6]%eth0 [IPV6]"),
        ("http://[2001:db8::1]:80/ ::ffff:1.2.3.4 addr:2001:db8::5", "http://[[IPV6]]:80/ [IPV6] addr:[IPV6]"),
        ("from 2001:db8::1: refused. 2001:db8::/32, fe80::1.", "from [IPV6]: refused. [IPV6]/32, [IPV6]."),
        ("4111 1111 1111 1111, 4111-1111-1111-1111, 4111111111111111", "[CARD], [CARD], [CARD]"),
        ("378282246310005 3782 822463 10005 30569309025904", "[CARD] [CARD] [CARD]"),
        ("6304 0000 0000 0000 000: 4222222222222", "[CARD]: [CARD]"),
        ("2024 4111 1111 1111 1111 12/25", "2024 [CARD] 12/25"),
        ("+1 (555) 123-4567, +44 20 7946 0958, +442079460958", "[PHONE], [PHONE], [PHONE]"),
        ("+49 (0)30/123456-0; +33 1 23 45 67 89; +49.301234567", "[PHONE]; [PHONE]; [PHONE]"),
        ("(555) 123-4567, 555-123-4567, 555.123.4567, 555 234 4567", "[PHONE], [PHONE], [PHONE], [PHONE]"),
        (
            "1-800-555-0199, 1 (800) 555-0199, 555-123-4567x12, 555-123-4567 ext. 9",
            "[PHONE], [PHONE], [PHONE], [PHONE]",
        ),
        ("020 7946 0958, (020) 7946 0958, 0171-1234567, 030/123456", "[PHONE], [PHONE], [PHONE], [PHONE]"),
        ("01 23 45 67 89, 06.12.34.56.78, 03-1234-5678, 07700 900123 x 5", "[PHONE], [PHONE], [PHONE], [PHONE]"),
        ("0044 20 7946 0958, Tel:030 1234567", "[PHONE], Tel:[PHONE]"),
        ("0171 1234567 2024-01-02 0172 1234567", "[PHONE] 2024-01-02 [PHONE]"),
    ],
)
def test_what_identifies_people_is_replaced(before, after):
    assert redact(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "a@b nope@localhost @home x@.com foo@bar",
        "256.1.1.1 1.2.3.4.5 v1.2.3.4 1.2.3 192.168.001.1 1.2.3.256",
        "12:34:56 00:1b:44:11:3a:b7 std::vector a::b x :: Int 1:2:3:4:5:6:7 12345::1 ::",
        "4111 1111 1111 1112 1234567890123456 0.4111111111111111 x4111111111111111",
        "2024-01-02 2024-01-02T03:04:05 2024/01/02 01/02/2024 01.02.2024 02-01-2024",
        "01-02-2024 10, 01/02/2024 12, 2024-01-02 123456, 2024/01/02 123456789, 12/05/2024 1234 users",
        "2024-01-02T03:04:05 01-02-2024 10:00 03:04:05 12345678",
        "5551234567 123456789012 01712345678 1700000000000",
        "10.15.7 1.2.3-4567 0.12.345 24.04.1 2024.1.15",
        "550e8400-e29b-41d4-a716-446655440000 978-3-16-148410-0 12:30:45.123456",
        "3.14159265358979 1,234,567,890 123-45-6789 555-1234 +0200 12+34567890",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert redact(text) == text


def test_only_the_chosen_types_are_replaced():
    text = "a@b.io 10.0.0.1 4111111111111111"
    assert redact(text, types=["ipv4"]) == "a@b.io [IPV4] 4111111111111111"
    assert redact(text, types="email,card") == "[EMAIL] 10.0.0.1 [CARD]"


def test_your_own_patterns_are_replaced_by_their_names():
    patterns = {"TICKET": r"T-\d+", "WORD": r"\bsecret\b"}
    assert redact("T-12 secrets secret a@b.io", patterns=patterns) == "[TICKET] secrets [WORD] [EMAIL]"
    assert redact("T-12", patterns='{"TICKET": "T-\\\\d+"}', types="[]") == "[TICKET]"
    assert redact("ab", patterns={"A": "a(?=b)", "B": "(?<=a)b"}) == "[A][B]"


def test_overlapping_matches_become_one_placeholder():
    assert redact("xx 10.0.0.1 yy", patterns={"LONG": r"xx 10\.0"}) == "[LONG] yy"
    assert redact("10.0.0.1", patterns={"MINE": r"10\.0\.0\.1"}) == "[MINE]"
    assert redact("10.0.0.1 yy", patterns={"MINE": r"10\.0"}) == "[IPV4] yy"


def test_matches_of_no_length_replace_nothing():
    assert redact("abc", patterns={"EMPTY": "(?=b)"}) == "abc"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"patterns": {"BAD": "("}}, "Option 'patterns': BAD is not a regular expression: .*position 0"),
        ({"patterns": {"BAD": "a*"}}, "BAD matches the empty string"),
        ({"patterns": {"bad": "a"}}, "Option 'patterns' is not valid"),
        ({"patterns": {"BAD": "a" * 201}}, "Option 'patterns' is not valid"),
        ({"patterns": {f"P{n}": "a" for n in range(21)}}, "Option 'patterns' is not valid"),
        ({"types": ["e-mail"]}, "Option 'types' is not valid: .*'e-mail'"),
        ({"types": []}, "nothing to redact"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(options, said):
    with pytest.raises(InvalidOption, match=said):
        registry.create("redact", options)


SAMPLE = (
    "plain text\r\nmail zoë@x.de or bob@example.com 漢字\n\n+44 20 7946 0958\r10.0.0.1\r\n"
    "😀 4111 1111 1111 1111 😀\n::1\nlast 555-123-4567"
).encode()


@pytest.mark.parametrize(
    "data",
    [b"x", b"bob@example.com", b"a@b.io\r\nx\r\n", BOM + b"a@b.io\n", BOM, b"\n" * 1000, SAMPLE, BOM + SAMPLE + b"\n"],
)
@pytest.mark.parametrize("chunk_bytes", [1, 5, 16, 1000])
def test_it_equals_a_run_over_everything_at_once(data, chunk_bytes):
    output, tallies = run(data, chunk_bytes=chunk_bytes)
    assert (output, tallies) == redacted_at_once(data)
    assert output.count(b"\n") == data.count(b"\n")


parts = st.sampled_from(
    [
        "\n",
        "\r\n",
        "\r",
        " ",
        "a",
        "é😀",
        "@",
        ".",
        "b.io",
        "1",
        "555-123-4567",
        "::1",
        "4111111111111111",
        "+",
        "/",
        "-0",
    ]
)


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.lists(parts, max_size=40), st.integers(1, 40))
def test_it_equals_a_run_over_any_text_at_once(bom, pieces, chunk_bytes):
    data = (BOM if bom else b"") + "".join(pieces).encode()
    assert run(data, chunk_bytes=chunk_bytes) == redacted_at_once(data)


def test_the_tallies_count_placeholders_by_name():
    output, tallies = run(b"a@b.io c@d.io\n10.0.0.1\nT-1 T-2 T-3\n", patterns={"TICKET": r"T-\d"}, chunk_bytes=8)
    assert output == b"[EMAIL] [EMAIL]\n[IPV4]\n[TICKET] [TICKET] [TICKET]\n"
    assert tallies == {"EMAIL": 2, "IPV4": 1, "TICKET": 3}


@untraced
def test_100_mb_of_json_lines_stay_json_lines():
    lines = "".join(
        json.dumps({"id": number, "name": "漢字 😀", "mail": f"user{number}@example.com"}, ensure_ascii=False) + "\n"
        for number in range(10_000)
    )
    block = (lines + "Zoë only text, and more of it\n" * 90_000).encode()
    times = 100_000_000 // len(block) + 1
    expected, _ = redacted_at_once(block)
    for chunk_bytes in (MIB, 8 * MIB):
        output, tallies = run(block * times, chunk_bytes=chunk_bytes)
        assert output == expected * times
        assert tallies == {"EMAIL": 10_000 * times}


@pytest.mark.parametrize("unit", ["1234567890", "a@a@a@", "1.1.1.1.", "dead:beef:12:", "+1 (", "a.b@c.", "ab@cd.ef "])
@untraced
def test_a_line_of_30_mb_takes_linear_time(unit):
    began = time.perf_counter()
    line = unit * (30_000_000 // len(unit))
    result = redact(line)
    assert time.perf_counter() - began < 60  # quadratic time would be days
    assert result == (line if unit != "ab@cd.ef " else "[EMAIL] " * (len(line) // len(unit)))
