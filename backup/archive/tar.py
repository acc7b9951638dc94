"""Headers of tar members, as bytes.

The dialect is POSIX pax: a ustar header, preceded by an extended header for what does not fit into
it. The same entry always gives the same bytes.
"""

from __future__ import annotations

import struct
from zlib import adler32

from backup.archive.records import (
    BLOCK_BYTES,
    attribute_records,
    record,
    sparse_map,
    sparse_records,
)
from backup.errors import InvalidArgumentError
from backup.model import Entry, EntryType

END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)

_NAME_BYTES = 100
_PREFIX_BYTES = 155
_OWNER_BYTES = 31
_EXTENDED_NAME_BYTES = 80
_EXTENDED_MODE = 0o644
_SPARSE_NAME = b"GNUSparseFile.0/"
_ASCII = 128
_UNDERSCORE = ord("_")
_MODE_BITS = 0o7777
_MAX_ID = 0o7777777
_MAX_SIZE = 0o77777777777
_MAX_TIME = 0o77777777777
_NANOSECONDS = 1_000_000_000

_FLAGS = {
    EntryType.FILE: b"0",
    EntryType.SYMLINK: b"2",
    EntryType.CHARACTER_DEVICE: b"3",
    EntryType.BLOCK_DEVICE: b"4",
    EntryType.DIRECTORY: b"5",
    EntryType.FIFO: b"6",
    EntryType.STREAM: b"0",
}
_HARD_LINK = b"1"
_EXTENDED = b"x"
_WITH_CONTENT = frozenset({EntryType.FILE, EntryType.STREAM})

# name; mode to mtime; checksum; type; link name; magic; user; group; major, minor; prefix
_HEADER = struct.Struct("100s48s8s1s100s8s32s32s16s155s12x")
_MAGIC = b"ustar\x0000"
_NO_DEVICE = b"0000000\x000000000\x00"
_ADLER_BYTES = 256
_ADLER_SUM = 0xFFFF
# The checksum counts its own field as eight spaces.
_CHECKSUM_BASE = sum(_MAGIC) + 8 * ord(" ")


def member_header(
    entry: Entry,
    *,
    hardlink_to: bytes | None = None,
    size: int | None = None,
    name: bytes | None = None,
) -> bytes:
    """Return the header blocks of the member for ``entry``, of a sparse file with its map.

    After it come the content of the stated size and ``padding`` of that size.

    Args:
        entry: What the member describes.
        hardlink_to: The path of an earlier member of which this is another name; no content
            follows.
        size: How many bytes of content follow, if not ``entry.stored_size``.
        name: What the member is called, if not ``entry.path``.

    Raises:
        InvalidArgumentError: The name is absolute.
    """
    path = _member_name(entry, name)
    link = entry.target if hardlink_to is None else hardlink_to
    with_map = entry.data is not None and hardlink_to is None and size is None
    holes = sparse_map(entry.data or (), entry.size) if with_map else b""
    if hardlink_to is not None or entry.type not in _WITH_CONTENT:
        size = 0
    elif size is None:
        size = len(holes) + entry.stored_size
    user = entry.user.encode("utf-8", "surrogateescape")
    group = entry.group.encode("utf-8", "surrogateescape")
    # What a tar that knows no sparse files makes of one must not have the file's own name.
    shown = _sparse_name(path) if with_map else path
    prefix, short = _split(shown)
    records = (
        _text_records(shown, link, user, group, name_fits=bool(short), real=path)
        + _number_records(entry.uid, entry.gid, size)
        + _time_record(entry.mtime_ns)
    )
    if hardlink_to is None:
        records += attribute_records(entry.xattrs)
    if with_map:
        records += sparse_records(entry.size)
    header = _block(
        short or shown[:_NAME_BYTES],
        flag=_FLAGS[entry.type] if hardlink_to is None else _HARD_LINK,
        mode=entry.mode & _MODE_BITS,
        uid=entry.uid,
        gid=entry.gid,
        size=size,
        seconds=entry.mtime_ns // _NANOSECONDS,
        link=link[:_NAME_BYTES],
        user=user[:_OWNER_BYTES],
        group=group[:_OWNER_BYTES],
        device=_NO_DEVICE if entry.device is None else b"%07o\0%07o\0" % entry.device,
        prefix=prefix,
    )
    return (_extension(path, records) if records else b"") + header + holes


def padding(size: int) -> int:
    """Return how many zero bytes follow after ``size`` bytes of content."""
    return -size % BLOCK_BYTES


def part_name(entry_number: int, offset: int) -> bytes:
    """Return the member name for a part of a large file.

    Args:
        entry_number: The place of the file among the entries of its snapshot.
        offset: Where in the file the part begins.
    """
    return b".auto-backup/parts/%d/%d" % (entry_number, offset)


def _member_name(entry: Entry, name: bytes | None) -> bytes:
    path = entry.path if name is None else name
    if path.startswith(b"/"):
        raise InvalidArgumentError(f"the member name {path!r} is absolute")
    if entry.type is EntryType.DIRECTORY:
        return path + b"/" if path else b"./"
    return path


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return ``path`` as the prefix and the name of a ustar header; no name if it does not fit."""
    if len(path) <= _NAME_BYTES:
        return b"", path
    # The first slash that leaves a short enough name, and one that is not empty.
    at = path.find(b"/", len(path) - _NAME_BYTES - 1, -1)
    if 0 < at <= _PREFIX_BYTES:
        return path[:at], path[at + 1 :]
    return b"", b""


def _text_records(
    path: bytes, link: bytes, user: bytes, group: bytes, *, name_fits: bool, real: bytes
) -> bytes:
    """Return extended records for the names that are too long, or not plain ASCII.

    ``real`` is the path, where the member itself is called otherwise.
    """
    records = b"" if real == path else record(b"GNU.sparse.name", real)
    if not name_fits or not path.isascii():
        records += record(b"path", path)
    if len(link) > _NAME_BYTES or not link.isascii():
        records += record(b"linkpath", link)
    if len(user) > _OWNER_BYTES or not user.isascii():
        records += record(b"uname", user)
    if len(group) > _OWNER_BYTES or not group.isascii():
        records += record(b"gname", group)
    if records and not _is_utf8(records):
        # Names are bytes here; without this record, readers may take them for broken UTF-8.
        return record(b"hdrcharset", b"BINARY") + records
    return records


def _number_records(uid: int, gid: int, size: int) -> bytes:
    """Return extended records for the numbers that have too many digits."""
    if uid <= _MAX_ID and gid <= _MAX_ID and size <= _MAX_SIZE:
        return b""
    limits = ((b"uid", uid, _MAX_ID), (b"gid", gid, _MAX_ID), (b"size", size, _MAX_SIZE))
    return b"".join(record(key, b"%d" % value) for key, value, limit in limits if value > limit)


def _time_record(mtime_ns: int) -> bytes:
    """Return the extended record for a time, if it is anything but whole seconds in range."""
    seconds, fraction = divmod(abs(mtime_ns), _NANOSECONDS)
    if not fraction and mtime_ns >= 0 and seconds <= _MAX_TIME:
        return b""
    sign = b"-" if mtime_ns < 0 else b""
    return record(b"mtime", b"%b%d.%09d" % (sign, seconds, fraction))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sparse_name(path: bytes) -> bytes:
    return _SPARSE_NAME + bytes(byte if byte < _ASCII else _UNDERSCORE for byte in _last_name(path))


def _last_name(path: bytes) -> bytes:
    return path.rstrip(b"/").rpartition(b"/")[2][:_EXTENDED_NAME_BYTES]


def _extension(path: bytes, records: bytes) -> bytes:
    """Return the member that carries ``records`` for the member after it."""
    name = b"PaxHeaders/" + _last_name(path)
    header = _block(name, flag=_EXTENDED, mode=_EXTENDED_MODE, size=len(records))
    return header + records + bytes(-len(records) % BLOCK_BYTES)


def _block(
    name: bytes,
    *,
    flag: bytes,
    mode: int,
    size: int,
    uid: int = 0,
    gid: int = 0,
    seconds: int = 0,
    link: bytes = b"",
    user: bytes = b"",
    group: bytes = b"",
    device: bytes = _NO_DEVICE,
    prefix: bytes = b"",
) -> bytes:
    """Return a ustar header; numbers out of range are cut off, as an extended record has them."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        mode,
        min(uid, _MAX_ID),
        min(gid, _MAX_ID),
        min(size, _MAX_SIZE),
        min(max(seconds, 0), _MAX_TIME),
    )
    # Summing the fields before they are filled up with zeros is much less work than after.
    fields = b"".join((name, numbers, flag, link, user, group, device, prefix))
    checksum = b"%06o\0 " % (_CHECKSUM_BASE + _sum_of_bytes(fields))
    return _HEADER.pack(name, numbers, checksum, flag, link, _MAGIC, user, group, device, prefix)


def _sum_of_bytes(data: bytes) -> int:
    """Return what ``sum(data)`` does, at a tenth of its time."""
    if len(data) > _ADLER_BYTES:
        return _sum_of_bytes(data[:_ADLER_BYTES]) + _sum_of_bytes(data[_ADLER_BYTES:])
    # Half of an Adler-32 is the sum and 1, modulo 65,521, which so few bytes do not reach.
    return (adler32(data) & _ADLER_SUM) - 1
