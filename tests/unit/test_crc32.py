"""Checksums of pieces make that of the whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from backhaul.store.crc32 import combined, crc32_of, from_text, to_text


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_checksums_of_pieces_combine_to_that_of_the_whole(pieces):
    crc = 0
    for piece in pieces:
        crc = combined(crc, zlib.crc32(piece), len(piece))
    assert crc == zlib.crc32(b"".join(pieces)) == crc32_of(pieces)


def test_large_pieces_combine_too():
    first, second = b"x" * 5_000_001, b"y" * 7_777_777
    assert combined(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(first + second)


@given(st.integers(0, 2**32 - 1))
def test_a_checksum_is_written_as_s3_writes_it(crc):
    assert from_text(to_text(crc)) == crc


def test_a_checksum_that_s3_documents_is_written_the_same():
    assert to_text(zlib.crc32(b"123456789")) == "y/Q5Jg=="
