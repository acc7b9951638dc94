"""The central directory of a zip archive, from bytes."""

from __future__ import annotations

import stat
import struct
import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from backup.errors import LimitError, MalformedError, TruncatedError
from backup.snapshot.source import ByteSource, read_exactly

END = struct.Struct("<4s4H2IH")
_END_MAGIC = b"PK\x05\x06"
_END64 = struct.Struct("<4sQ2H2I4Q")
_END64_MAGIC = b"PK\x06\x06"
_LOCATOR = struct.Struct("<4sIQI")
_LOCATOR_MAGIC = b"PK\x06\x07"
_RECORD = struct.Struct("<4s6H3I5H2I")
_RECORD_MAGIC = b"PK\x01\x02"
_LONGEST_COMMENT = 65_535
_MOST_DIRECTORY = 512 * 2**20
_FULL, _FULL_COUNT = 2**32 - 1, 2**16 - 1
_EXTRA = struct.Struct("<2H")
_ZIP64, _TIMES, _OWNER, _NAME, _NTFS, _AES = 0x0001, 0x5455, 0x7875, 0x7075, 0x000A, 0x9901
_UNIX, _DOS_HOSTS = 3, frozenset({0, 10, 14})
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_NTFS_EPOCH = 11_644_473_600
_NANOSECONDS = 10**9
_NUMBER_BYTES = 8


class ZipRecord(NamedTuple):
    """What the central directory says of one member; ``name`` as it stands there."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    host: int
    attributes: int
    dos_time: int
    extra: dict[int, bytes]

    @property
    def is_encrypted(self) -> bool:
        """Whether a password is needed."""
        return bool(self.flags & _ENCRYPTED) or _AES in self.extra

    @property
    def mode(self) -> int:
        """Type and permissions as Unix has them, 0 where it does not tell."""
        return self.attributes >> 16 if self.host == _UNIX else 0

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.path.endswith(b"/") or stat.S_ISDIR(self.mode)

    @property
    def path(self) -> bytes:
        """Its name as Unix has names: the bytes that Unix gave it, else UTF-8."""
        name = self._unicode()
        return name.replace(b"\\", b"/") if self.host in _DOS_HOSTS and b"/" not in name else name

    def _unicode(self) -> bytes:
        if self.flags & _UTF8 or self.name.isascii():
            return self.name
        extra = self.extra.get(_NAME, b"")
        if extra[:1] == b"\x01" and extra[1:5] == struct.pack("<I", zlib.crc32(self.name)):
            return extra[5:]
        if self.host == _UNIX:
            return self.name
        return self.name.decode("cp437").encode()

    def owner(self) -> tuple[int, int] | None:
        """Return the numbers of user and group, where it tells them."""
        extra = self.extra.get(_OWNER, b"")
        if len(extra) < 3 or extra[0] != 1 or extra[1] > _NUMBER_BYTES:  # noqa: PLR2004 - version and two lengths
            return None
        user, rest = extra[2 : 2 + extra[1]], extra[2 + extra[1] :]
        group = rest[1 : 1 + rest[0]] if rest else b""
        if not rest or rest[0] > _NUMBER_BYTES or len(user) != extra[1] or len(group) != rest[0]:
            return None
        return int.from_bytes(user, "little"), int.from_bytes(group, "little")

    def mtime_ns(self) -> int:
        """Return when it was last modified; a DOS time is taken as local."""
        times, ntfs = self.extra.get(_TIMES, b""), self.extra.get(_NTFS, b"")
        if len(times) >= 5 and times[0] & 1:  # noqa: PLR2004 - flags and one time
            return int.from_bytes(times[1:5], "little", signed=True) * _NANOSECONDS
        if ntfs[4:8] == b"\x01\x00\x18\x00" and len(ntfs) >= 16:  # noqa: PLR2004 - the first of three times
            time_ns = int.from_bytes(ntfs[8:16], "little") * 100 - _NTFS_EPOCH * _NANOSECONDS
            return min(time_ns, 2**63 - 1)
        return _dos_time(self.dos_time)


def _dos_time(value: int) -> int:
    day, clock = value >> 16, value & 0xFFFF
    parts = (
        1980 + (day >> 9), (day >> 5) & 15, day & 31, clock >> 11, (clock >> 5) & 63,
        (clock & 31) * 2, 0, 0, -1,
    )  # fmt: skip
    try:
        return int(time.mktime(parts)) * _NANOSECONDS
    except (OverflowError, ValueError):
        return 0


def parse_extra(data: bytes) -> dict[int, bytes]:
    """Return the extra fields by their numbers; the first of each number counts.

    What is left behind the last whole one is passed over: some writers pad with zeros.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at + _EXTRA.size <= len(data):
        number, length = _EXTRA.unpack_from(data, at)
        at += _EXTRA.size
        if at + length > len(data):
            break
        found.setdefault(number, data[at : at + length])
        at += length
    return found


def wide(extra: dict[int, bytes], *values: int) -> list[int]:
    """Return ``values`` of 32 bits, those that are full as the zip64 field has them.

    Raises:
        MalformedError: It has not as many.
    """
    rest = extra.get(_ZIP64, b"")
    real = []
    for value in values:
        if value == _FULL:
            if len(rest) < 8:  # noqa: PLR2004 - bytes of a number
                raise MalformedError("a zip64 field is too short")
            value, rest = int.from_bytes(rest[:8], "little"), rest[8:]  # noqa: PLW2901 - the real one
        real.append(value)
    return real


class Directory(NamedTuple):
    """Where the central directory lies, and how many records it has."""

    offset: int
    size: int
    records: int


def find_directory(source: ByteSource) -> Directory:
    """Return where the central directory lies.

    Raises:
        TruncatedError: The archive has none.
        MalformedError: Its end does not fit it.
    """
    start = max(source.size - END.size - _LONGEST_COMMENT, 0)
    tail = source.read_at(start, source.size - start)
    at = tail.rfind(_END_MAGIC)
    while at >= 0 and at + END.size + int.from_bytes(tail[at + 20 : at + 22], "little") != len(
        tail
    ):
        at = tail.rfind(_END_MAGIC, 0, at)
    if at < 0 or at + END.size > len(tail):
        raise TruncatedError(
            f"{source.name} has no directory at its end: it is cut off, or damaged",
            hint="get another copy; 'zip -FF' may find what is left of this one",
        )
    _, disk, first, here, count, size, offset, _ = END.unpack_from(tail, at)
    end = start + at
    if _FULL in {size, offset} or _FULL_COUNT in {count, here, disk, first}:
        end, (disk, first, here, count, size, offset) = _end64(source, end)
    if disk or first or here != count:
        raise MalformedError(f"{source.name} is one part of a zip archive of several files")
    if offset + size != end:
        raise MalformedError(f"the directory of {source.name} does not end where it says")
    return Directory(offset, size, count)


def _end64(source: ByteSource, end: int) -> tuple[int, tuple[int, int, int, int, int, int]]:
    where = max(end - _LOCATOR.size, 0)
    magic, _, at, _ = _LOCATOR.unpack(read_exactly(source, where, _LOCATOR.size, "its zip64 end"))
    if magic != _LOCATOR_MAGIC or at > where:
        raise MalformedError(f"the zip64 end of {source.name} is damaged")
    fields = _END64.unpack(read_exactly(source, at, _END64.size, "its zip64 end"))
    if fields[0] != _END64_MAGIC or at + 12 + fields[1] != where:
        raise MalformedError(f"the zip64 end of {source.name} is damaged")
    return at, fields[4:]


def read_directory(source: ByteSource) -> Iterator[ZipRecord]:
    """Yield the records of the central directory.

    Raises:
        IntegrityError: It is damaged.
    """
    where = find_directory(source)
    if where.size > _MOST_DIRECTORY:
        raise LimitError(f"the directory of {source.name} has {where.size:,} bytes")
    data = read_exactly(source, where.offset, where.size, "its directory")
    at = 0
    for _ in range(where.records):
        record, at = _record(data, at)
        yield record
    if at != len(data):
        raise MalformedError(f"the directory of {source.name} has more than it says")


def _record(data: bytes, at: int) -> tuple[ZipRecord, int]:
    if at + _RECORD.size > len(data):
        raise MalformedError("the directory has fewer records than it says")
    (magic, made_by, _, flags, method, clock, day, crc, packed, size, name_length, extra_length,
     comment_length, _, _, attributes, offset) = _RECORD.unpack_from(data, at)  # fmt: skip
    end = at + _RECORD.size + name_length + extra_length + comment_length
    if magic != _RECORD_MAGIC or end > len(data):
        raise MalformedError("a record of the directory is damaged")
    at += _RECORD.size
    name = data[at : at + name_length]
    extra = parse_extra(data[at + name_length : at + name_length + extra_length])
    size, packed, offset = wide(extra, size, packed, offset)
    time_and_day = day << 16 | clock
    return ZipRecord(
        name,
        flags,
        method,
        crc,
        packed,
        size,
        offset,
        made_by >> 8,
        attributes,
        time_and_day,
        extra,
    ), end
