"""Headers of tar members, from bytes: ustar, GNU, and the records of pax."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from typing import NamedTuple

from backup.archive.records import BLOCK_BYTES
from backup.errors import LimitError, MalformedError

Records = dict[bytes, bytes]
Runs = tuple[tuple[int, int], ...]

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_BLANKS = b" " * 8
_POSIX, _GNU = b"ustar\0", b"ustar "
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_DIGITS = re.compile(rb"[0-9]{1,20}")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_BINARY = 0x80
_NANOSECONDS = 10**9
_MOST = 2**63 - 1
_MOST_RUNS = 1_000_000
_RUN = struct.Struct("12s12s")
_GNU_RUNS = (386, 4)
_GNU_MORE, _GNU_SIZE = 482, slice(483, 495)
_EXTENSION_RUNS, _EXTENSION_MORE = 21, 504


class Header(NamedTuple):
    """The fields of a header block, as they stand."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    seconds: int
    kind: bytes
    link: bytes
    user: bytes
    group: bytes
    device: tuple[int, int]


def parse_header(block: bytes) -> Header:
    """Return the fields of a header block.

    Raises:
        MalformedError: Its checksum does not fit, or a number is none.
    """
    (name, mode, uid, gid, size, seconds, checksum, kind, link, magic_to, user, group, major, minor,
     prefix) = _FIELDS.unpack(block)  # fmt: skip
    if not _has_checksum(block, checksum):
        raise MalformedError("the checksum of a header does not fit")
    name = _text(name)
    if magic_to.startswith(_POSIX) and prefix[0]:
        name = _text(prefix) + b"/" + name
    is_ustar = magic_to.startswith((_POSIX, _GNU))
    is_device = kind in {b"3", b"4"}
    return Header(
        name=name,
        mode=_number(mode) & 0o7777,
        uid=owner(_number(uid, least=-_MOST)),
        gid=owner(_number(gid, least=-_MOST)),
        size=_number(size),
        seconds=_number(seconds, least=-_MOST),
        kind=kind,
        link=_text(link),
        user=_text(user) if is_ustar else b"",
        group=_text(group) if is_ustar else b"",
        device=(_number(major), _number(minor)) if is_device else (0, 0),
    )


def _has_checksum(block: bytes, field: bytes) -> bool:
    expected = _number(field)
    counted = sum(block) - sum(field) + sum(_BLANKS)
    if expected == counted:
        return True
    # Old tars took bytes as signed.
    high = sum(byte >= _BINARY for byte in block) - sum(byte >= _BINARY for byte in field)
    return expected == counted - 256 * high


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes, *, least: int = 0) -> int:
    """Return the number in a field: in octal, or, as GNU has it, in binary."""
    if field[0] & _BINARY:
        number = int.from_bytes(field, "big", signed=True)
        number = number if field[0] == 0xFF else number + (1 << (8 * len(field) - 1))  # noqa: PLR2004 - minus
    else:
        found = _OCTAL.fullmatch(field)
        if found is None:
            raise MalformedError("a number in a header is none")
        number = int(found[1] or b"0", 8)
    if not least <= number <= _MOST:
        raise MalformedError("a number in a header is out of range")
    return number


def owner(number: int) -> int:
    """Return the number of a user or group: some write that of nobody as minus two."""
    return number & 0xFFFF_FFFF if number < 0 else number


def parse_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the records of an extended header, as they come.

    Raises:
        MalformedError: They are not what the format allows.
    """
    records = []
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 21)
        digits = data[at:blank] if blank >= 0 else b""
        length = int(digits) if _DIGITS.fullmatch(digits) else -1
        end = at + length
        key, is_one, value = data[blank + 1 : end - 1].partition(b"=")
        if not (0 <= blank - at < length <= len(data) - at and is_one and data[end - 1] == 0x0A):  # noqa: PLR2004 - a line end
            raise MalformedError("a record of an extended header is malformed")
        records.append((key, value))
        at = end
    return records


def decimal(records: Records, key: bytes, default: int, *, is_signed: bool = False) -> int:
    """Return the number in a record.

    Raises:
        MalformedError: It is none.
    """
    value = records.get(key)
    if value is None:
        return default
    digits = value.removeprefix(b"-") if is_signed else value
    if not _DIGITS.fullmatch(digits) or int(digits) > _MOST:
        raise MalformedError(f"the record {key!r} is no number")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Return the time in a record, such as ``1700000000.25``.

    Raises:
        MalformedError: It is none.
    """
    found = _TIME.fullmatch(value)
    if found is None:
        raise MalformedError("a time in an extended header is none")
    sign, seconds, fraction = found[1], int(found[2]), (found[3] or b"")[:9].ljust(9, b"0")
    total = seconds * _NANOSECONDS + int(fraction)
    return max(min(-total if sign else total, _MOST), -_MOST)


def tidy_runs(runs: Iterable[tuple[int, int]], size: int, stored: int) -> Runs | None:
    """Return the map of a sparse file as an entry has it.

    Raises:
        MalformedError: Runs overlap, are not in order, reach beyond the end, or have not as many
            bytes as are stored.
    """
    tidy: list[tuple[int, int]] = []
    end = total = 0
    for offset, length in runs:
        if offset < end or offset + length > size:
            raise MalformedError("the map of a sparse file does not fit it")
        total += length
        if length and tidy and offset == end:
            tidy[-1] = (tidy[-1][0], tidy[-1][1] + length)
        elif length:
            tidy.append((offset, length))
        end = offset + length
    if total != stored:
        raise MalformedError("the map of a sparse file tells of more or fewer bytes than it has")
    return None if tidy == [(0, size)] else tuple(tidy)


def gnu_runs(block: bytes) -> tuple[list[tuple[int, int]], int, bool]:
    """Return of an old GNU sparse header its first runs, the file's size, and whether more come."""
    start, count = _GNU_RUNS
    return _runs_in(block, start, count), _number(block[_GNU_SIZE]), bool(block[_GNU_MORE])


def more_gnu_runs(block: bytes) -> tuple[list[tuple[int, int]], bool]:
    """Return the runs of a block that follows such a header, and whether more come."""
    return _runs_in(block, 0, _EXTENSION_RUNS), bool(block[_EXTENSION_MORE])


def _runs_in(block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    fields = block[start : start + count * _RUN.size]
    return [(_number(at), _number(length)) for at, length in _RUN.iter_unpack(fields) if at[0]]


def pax_runs(records: Iterable[tuple[bytes, bytes]]) -> list[tuple[int, int]]:
    """Return the runs of a sparse file that stand in records: GNU's formats 0.0 and 0.1.

    Raises:
        MalformedError: They are not runs.
    """
    numbers: list[bytes] = []
    for key, value in records:
        if key in {b"GNU.sparse.offset", b"GNU.sparse.numbytes"}:
            numbers.append(value)
        elif key == b"GNU.sparse.map":
            numbers = value.split(b",") if value else []
    return _pairs(numbers)


def map_runs(numbers: list[bytes]) -> list[tuple[int, int]]:
    """Return the runs of the map that precedes the data, in format 1.0, without its first line."""
    return _pairs(numbers)


def _pairs(numbers: list[bytes]) -> list[tuple[int, int]]:
    if len(numbers) > 2 * _MOST_RUNS:
        raise LimitError(f"a sparse file has more than {_MOST_RUNS:,} runs of data")
    if len(numbers) % 2 or not all(_DIGITS.fullmatch(one) for one in numbers):
        raise MalformedError("the map of a sparse file is malformed")
    values = [int(one) for one in numbers]
    return list(zip(values[::2], values[1::2], strict=True))


def padded(size: int) -> int:
    """Return ``size``, made up to whole blocks."""
    return size + -size % BLOCK_BYTES
