"""text-stats equals a count of the whole text at once."""

import io
import json
import re
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backhaul.model.errors import UnsuitableInput
from backhaul.plugin.registry import find_processors
from backhaul.trial.trial import trial
from tests.sources import MemorySource
from tests.tracing import untraced

MIB = 1024 * 1024
BOM = b"\xef\xbb\xbf"
registry = find_processors()

NAMED = {
    "one byte": b"x",
    "one space": b" ",
    "one line without newline": b"the quick brown fox",
    "CRLF": b"one two\r\nthree\r\n\r\nfour",
    "byte-order mark": BOM + b"one two\n",
    "only a byte-order mark": BOM,
    "only newlines": b"\n" * 1000,
    "lone CR": b"a\rb c\r",
    "every kind of space": "a\u2028b\u00a0c\x1cd\u3000e\tf\x0bg\n".encode(),
    "multi-byte": "héllo wörld 漢字 😀😀\n".encode() * 50,
}


def stats(data, **options):
    output = io.BytesIO()
    trial(lambda: registry.create("text-stats", options), MemorySource(data), output)
    return output.getvalue()


def counted_at_once(data, top=20):
    text = data.decode("utf-8-sig")
    lines = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
    words = Counter(text.split())
    ranking = sorted(words.items(), key=lambda item: (-item[1], item[0]))
    return {
        "lines": len(lines),
        "words": len(text.split()),
        "characters": len(text),
        "bytes": len(data),
        "longest_line": max((len(re.sub(r"\r?\n\Z", "", line)) for line in lines), default=0),
        "top_words": [list(item) for item in ranking[:top]],
    }


@pytest.mark.parametrize("data", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 1000])
def test_it_equals_an_independent_count(data, chunk_bytes):
    assert json.loads(stats(data, chunk_bytes=chunk_bytes)) == counted_at_once(data)


parts = st.sampled_from(["\n", "\r\n", "\r", " ", "a", "be", "é", "漢字", "😀", "\u2028", "\t", "the"])


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.lists(parts, max_size=60), st.integers(1, 40), st.integers(0, 4))
@example(True, ["\n"], 1, 0)
def test_it_equals_an_independent_count_of_any_text(bom, pieces, chunk_bytes, top):
    data = (BOM if bom else b"") + "".join(pieces).encode()
    assert json.loads(stats(data, chunk_bytes=chunk_bytes, top=top)) == counted_at_once(data, top)


@untraced
def test_a_line_of_30_mb_is_one_line():
    data = ("wörd " * 5_000_000).encode()
    assert json.loads(stats(data, chunk_bytes=MIB)) == counted_at_once(data)


@pytest.mark.parametrize("chunk_bytes", [MIB, 8 * MIB])
@untraced
def test_100_mb_of_json_lines_are_counted_exactly(chunk_bytes):
    block = "".join(
        json.dumps(
            {"id": number, "name": f"Zoë {number % 97}", "text": "漢字 und 😀 " * (number % 5)}, ensure_ascii=False
        )
        + ("\r\n" if number % 3 else "\n")
        for number in range(10_000)
    ).encode()
    times = 100_000_000 // len(block) + 1
    # The text repeats whole lines, so what one block holds says what all of it holds.
    one = counted_at_once(block, top=5)
    expected = {name: one[name] * times for name in ("lines", "words", "characters", "bytes")}
    expected["longest_line"] = one["longest_line"]
    expected["top_words"] = [[word, count * times] for word, count in one["top_words"]]
    assert json.loads(stats(block * times, chunk_bytes=chunk_bytes, top=5)) == expected


def test_the_output_is_one_line_of_json_in_a_fixed_order():
    assert stats(b"b a\nb\n", top=1) == (
        b'{"lines":2,"words":3,"characters":6,"bytes":6,"longest_line":3,"top_words":[["b",2]]}\n'
    )
    assert stats(b"x", top="0").endswith(b'"top_words":[]}\n')


@pytest.mark.parametrize("data", ["a\n".encode("utf-16"), b"a\nb\0", b"a\nb\xff"])
def test_what_is_no_text_is_never_counted(data):
    with pytest.raises(UnsuitableInput):
        stats(data, chunk_bytes=2)
