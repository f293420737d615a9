"""CRC-32 of an object from the CRC-32s of its parts, so that no process has to read the whole object."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
"""The polynomial 1. CRC-32 stores a polynomial's bits in reverse order, so it is the highest bit."""


def combined(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two joined pieces from the CRC-32 of each; `length` is the second piece's, in bytes."""
    return _product(first, _power_of_x(8 * length)) ^ second


def crc32_of(pieces: Iterable[bytes]) -> int:
    """Return the CRC-32 of the pieces joined in order."""
    crc = 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def to_text(crc: int) -> str:
    """Return a CRC-32 as S3 writes it: its four bytes in big-endian order, in base64."""
    return base64.b64encode(crc.to_bytes(4)).decode()


def from_text(text: str) -> int:
    """Return the CRC-32 that a text of S3 stands for."""
    return int.from_bytes(base64.b64decode(text))


def _power_of_x(exponent: int) -> int:
    """Return x to this power, modulo the CRC's polynomial, by repeated squaring."""
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _product(power, square)
        square = _product(square, square)
        exponent >>= 1
    return power


def _product(a: int, b: int) -> int:
    """Return the product of two polynomials, modulo the CRC's polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product
