"""CRC-32 of pieces, put together: the checksum of a whole object that nobody ever held in one place."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""The polynomial 1: its bits are in reverse, as those of every CRC-32."""


def combined(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two pieces, one after the other, from theirs; `length` is that of the second, in bytes."""
    return _product(first, _power_of_x(8 * length)) ^ second


def crc32_of(pieces: Iterable[bytes]) -> int:
    """Return the CRC-32 of the pieces, one after the other."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def to_text(crc: int) -> str:
    """Return a CRC-32 as S3 writes it: the base64 of four bytes, the highest first."""
    return base64.b64encode(crc.to_bytes(4)).decode()


def from_text(text: str) -> int:
    """Return the CRC-32 that S3 has written so."""
    return int.from_bytes(base64.b64decode(text))


def _power_of_x(exponent: int) -> int:
    """Return x to this power, modulo the polynomial, by repeated squaring."""
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _product(power, square)
        square = _product(square, square)
        exponent >>= 1
    return power


def _product(a: int, b: int) -> int:
    """Return the product of two polynomials, modulo the polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
