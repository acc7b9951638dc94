"""Packing the members of zip files; a large one in pieces, each of which stands for itself."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from backup.errors import MalformedError
from backup.plain.zip_records import DEFLATED, STORED
from backup.snapshot.compression import looks_incompressible

DEFAULT_LEVEL = 6
_TRIAL_LEAST = 64 * 1024
_RAW = -15
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31
_ZERO_POWERS = 64


class Packed(NamedTuple):
    """Bytes and how they were packed."""

    method: int
    data: bytes


def pack(plain: bytes, level: int) -> Packed:
    """Return a whole member packed, or as it is where that is not smaller."""
    if plain and not is_hard_to_pack(plain):
        data = deflate(plain, level, is_last=True)
        if len(data) < len(plain):
            return Packed(DEFLATED, data)
    return Packed(STORED, plain)


def unpack(packed: bytes | memoryview, method: int, size: int) -> bytes:
    """Return what ``pack`` was given, ``size`` bytes.

    Raises:
        MalformedError: It is something else.
    """
    if method == DEFLATED:
        return inflate(packed, size, is_last=True)
    if method != STORED or len(packed) != size:
        raise MalformedError("a member is not packed as its header says")
    return bytes(packed)


def deflate(plain: bytes | memoryview, level: int, *, is_last: bool) -> bytes:
    """Return a run of a large member packed; the results, put together, are the packed member.

    It refers to no bytes before it, and ends with a whole byte.
    """
    packer = zlib.compressobj(0 if is_hard_to_pack(plain) else level, zlib.DEFLATED, _RAW)
    return packer.compress(plain) + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)


def inflate(packed: bytes | memoryview, size: int, *, is_last: bool) -> bytes:
    """Return what ``deflate`` was given, ``size`` bytes.

    Raises:
        MalformedError: It is something else.
    """
    unpacker = zlib.decompressobj(_RAW)
    try:
        # One byte more than expected: too much has to show, and so has the end.
        plain = unpacker.decompress(packed, size + 1)
    except zlib.error as error:
        raise MalformedError("a member is not packed as its header says") from error
    if len(plain) != size or unpacker.eof != is_last or unpacker.unused_data:
        raise MalformedError("a member holds another number of bytes than it should")
    return plain


def is_hard_to_pack(plain: bytes | memoryview) -> bool:
    """Return whether deflating would only take time."""
    return len(plain) >= _TRIAL_LEAST and looks_incompressible(plain)


def joined_crc(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two runs of bytes put together.

    Args:
        first: That of the first run.
        second: That of the second one.
        length: How many bytes the second one has.
    """
    # Appending zeros is multiplying by a power of x: https://zlib.net, crc32_combine.
    power, factor, bits = _X_POWERS, _ONE, length << 3
    at = 0
    while bits:
        if bits & 1:
            factor = _multiply(power[at], factor)
        bits >>= 1
        at += 1
    return _multiply(factor, first) ^ second


def _multiply(left: int, right: int) -> int:
    """Return the product of two polynomials over GF(2), modulo that of the CRC; bits reflected."""
    product, bit = 0, _ONE
    while left:
        if left & bit:
            product ^= right
            left ^= bit
        bit >>= 1
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product


def _powers() -> list[int]:
    """Return x to the power of 1, 2, 4, 8 and so on."""
    found = [_ONE >> 1]
    while len(found) < _ZERO_POWERS:
        found.append(_multiply(found[-1], found[-1]))
    return found


_X_POWERS = _powers()
