"""Records of zip files, as bytes.

The dialect is that of Info-ZIP: names in UTF-8, modes and types of files, times in UTC and owners
in extra fields. What is too large for a field stands in a zip64 field.
Source: APPNOTE.TXT 6.3.10 (PKWARE); extrafld.txt of Info-ZIP's zip 3.0 for 0x5455 and 0x7875.
"""

from __future__ import annotations

import stat
import struct
from datetime import UTC, datetime

import msgspec

STORED = 0
DEFLATED = 8
LONGEST_NAME = 0xFFFF
LOCAL = struct.Struct("<4s5H3L2H")
"""Magic; version, flags, method, time, date; CRC, packed, size; lengths of name and extra."""

LOCAL_MAGIC = b"PK\x03\x04"
STREAMED = 0x0008
_UTF8 = 0x0800
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_DESCRIPTOR = struct.Struct("<4s3L")
_DESCRIPTOR_64 = struct.Struct("<4sL2Q")
_MOST_16 = 0xFFFF
_MOST_32 = 0xFFFFFFFF
_NEAR_LIMIT = _MOST_32 - (64 << 20)
"""What is larger may pass the limit once packed: stored blocks add 5 bytes for each 65,535."""

_PLAIN_VERSION = 20
_LARGE_VERSION = 45
_MADE_BY = (3 << 8) | 63  # Unix
_DOS_DIRECTORY = 0x10
_LARGE, _TIMES, _OWNER = 0x0001, 0x5455, 0x7875
_HAS_MTIME = 1
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
_FIRST_DATE = (0, 1 << 5 | 1)
_LAST_DATE = (23 << 11 | 59 << 5 | 29, (_LAST_YEAR - _FIRST_YEAR) << 9 | 12 << 5 | 31)
_FIRST_SECOND, _LAST_SECOND = 315_532_800 - 86_400, 4_354_819_200 + 86_400


class ZipMember(msgspec.Struct, array_like=True):
    """One member. ``mode`` has the type of the file, too; ``offset`` is where its record begins.

    ``streamed``: CRC and sizes were not known when its header was written, and come after it;
    then ``size`` is known all the same.
    """

    name: bytes
    mode: int
    seconds: int
    uid: int
    gid: int
    method: int = STORED
    crc: int = 0
    packed: int = 0
    size: int = 0
    streamed: bool = False
    offset: int = 0

    @property
    def is_large(self) -> bool:
        """Whether its own header says that its sizes have 64 bits."""
        return self.streamed and self.size >= _NEAR_LIMIT


def zip_name(name: bytes) -> bytes:
    r"""Return ``name`` in UTF-8: bytes that are not are escaped.

    >>> zip_name(b"caf\xe9")
    b'caf\\xe9'
    """
    return name.decode("utf-8", "backslashreplace").encode()


def local_header(member: ZipMember) -> bytes:
    """Return what precedes the packed bytes of ``member``."""
    extra = _extra(member)
    crc, packed, size = member.crc, member.packed, member.size
    if member.streamed:
        crc, packed, size = 0, 0, 0
    if member.is_large:
        extra = struct.pack("<2H2Q", _LARGE, 16, 0, 0) + extra
        packed = size = _MOST_32
    head = LOCAL.pack(
        LOCAL_MAGIC,
        _version(large=member.is_large),
        _flags(member),
        member.method,
        *dos_time(member.seconds),
        crc,
        packed,
        size,
        len(member.name),
        len(extra),
    )
    return head + member.name + extra


def descriptor(member: ZipMember) -> bytes:
    """Return what follows the packed bytes of a ``streamed`` member."""
    form = _DESCRIPTOR_64 if member.is_large else _DESCRIPTOR
    return form.pack(b"PK\x07\x08", member.crc, member.packed, member.size)


def central_record(member: ZipMember) -> bytes:
    """Return the line of the directory at the end for ``member``."""
    large = b"".join(
        struct.pack("<Q", number)
        for number in (member.size, member.packed, member.offset)
        if number >= _MOST_32
    )
    extra = (struct.pack("<2H", _LARGE, len(large)) + large if large else b"") + _extra(member)
    head = _CENTRAL.pack(
        b"PK\x01\x02",
        _MADE_BY,
        _version(large=bool(large) or member.is_large),
        _flags(member),
        member.method,
        *dos_time(member.seconds),
        member.crc,
        min(member.packed, _MOST_32),
        min(member.size, _MOST_32),
        len(member.name),
        len(extra),
        0,  # no comment
        0,  # the first disk
        0,  # nothing is said about it being text
        (member.mode << 16) | (_DOS_DIRECTORY if stat.S_ISDIR(member.mode) else 0),
        min(member.offset, _MOST_32),
    )
    return head + member.name + extra


def end_of_directory(count: int, size: int, offset: int) -> bytes:
    """Return the end of a zip file whose directory of ``count`` members has ``size`` bytes.

    Args:
        count: How many members.
        size: Of the directory.
        offset: Where the directory begins.
    """
    large = b""
    if count >= _MOST_16 or size >= _MOST_32 or offset >= _MOST_32:
        large = _END_64.pack(
            *(b"PK\x06\x06", _END_64.size - 12, _MADE_BY, _LARGE_VERSION),
            *(0, 0, count, count, size, offset),
        ) + _LOCATOR.pack(b"PK\x06\x07", 0, offset + size, 1)
    counts = (min(count, _MOST_16),) * 2
    return large + _END.pack(
        b"PK\x05\x06", 0, 0, *counts, min(size, _MOST_32), min(offset, _MOST_32), 0
    )


def dos_time(seconds: int) -> tuple[int, int]:
    """Return a moment as DOS has it, time and date in the local zone, from 1980 to 2107."""
    if seconds < _FIRST_SECOND:
        return _FIRST_DATE
    if seconds > _LAST_SECOND:
        return _LAST_DATE
    at = datetime.fromtimestamp(seconds, UTC).astimezone()
    if at.year < _FIRST_YEAR:
        return _FIRST_DATE
    if at.year > _LAST_YEAR:
        return _LAST_DATE
    date = (at.year - _FIRST_YEAR) << 9 | at.month << 5 | at.day
    return at.hour << 11 | at.minute << 5 | at.second // 2, date


def _version(*, large: bool) -> int:
    return _LARGE_VERSION if large else _PLAIN_VERSION


def _flags(member: ZipMember) -> int:
    return (0 if member.name.isascii() else _UTF8) | (STREAMED if member.streamed else 0)


def _extra(member: ZipMember) -> bytes:
    owner = struct.pack("<2H2BLBL", _OWNER, 11, 1, 4, member.uid, 4, member.gid)
    if not -(1 << 31) <= member.seconds < 1 << 31:
        return owner  # the field has 32 bits; until 2107 the other time tells it
    return struct.pack("<2HBl", _TIMES, 5, _HAS_MTIME, member.seconds) + owner
