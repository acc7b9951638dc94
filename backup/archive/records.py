"""Records of extended tar headers: what a ustar header has no room for, by name."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

BLOCK_BYTES = 512

_ACL_VERSION = 2
_ACL_HEAD = struct.Struct("<I")
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_TAGS = {0x01: "user:", 0x02: "user:", 0x04: "group:", 0x08: "group:"}
_ACL_TAGS |= {0x10: "mask:", 0x20: "other:"}
_ACL_NAMED = frozenset({0x02, 0x08})
_ACLS = {
    b"system.posix_acl_access": b"SCHILY.acl.access",
    b"system.posix_acl_default": b"SCHILY.acl.default",
}
_ACL_LINE = re.compile(
    r"(?P<tag>user|group|mask|other|[ugmo]):(?P<who>[^:]*):(?P<bits>[-rwx]{1,3})(:(?P<number>\d{1,10}))?",
    re.ASCII,
)
_TAGS = {("u", False): 0x01, ("u", True): 0x02, ("g", False): 0x04, ("g", True): 0x08}
_TAGS |= {(tag, named): code for tag, code in (("m", 0x10), ("o", 0x20)) for named in (False, True)}
_BITS = (("r", 4), ("w", 2), ("x", 1))
_NO_ONE = 2**32 - 1
_ACL_GROWTH = 3  # at most: 8 bytes become "group:4294967295:rwx,"
_RECORD_BOUND = 48


def record(key: bytes, value: bytes) -> bytes:
    """Return one extended record, which begins with its own length."""
    length = len(key) + len(value) + 3  # a blank, an equals sign, a line end
    total = length + len(b"%d" % length)
    # The digits themselves may have added a digit.
    total = length + len(b"%d" % total)
    return b"%d %b=%b\n" % (total, key, value)


def attribute_records(attributes: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the records of extended attributes, as star, GNU tar and libarchive know them.

    ACLs stand as text with numbers for users and groups. In names ``%`` and ``=`` are written as
    GNU tar does: ``%25`` and ``%3D``.
    """
    return b"".join(_attribute_record(name, value) for name, value in attributes)


def attribute_bound(attributes: Iterable[tuple[bytes, bytes]]) -> int:
    """Return a bound of the bytes that ``attribute_records`` gives."""
    return sum(
        _RECORD_BOUND + 3 * len(name) + len(value) * (_ACL_GROWTH if name in _ACLS else 1)
        for name, value in attributes
    )


def _attribute_record(name: bytes, value: bytes) -> bytes:
    if name in _ACLS:
        text = acl_text(value)
        if text:
            return record(_ACLS[name], text.encode("ascii"))
    escaped = name.replace(b"%", b"%25").replace(b"=", b"%3D")
    return record(b"SCHILY.xattr." + escaped, value)


def acl_text(value: bytes) -> str:
    """Return a POSIX ACL, as Linux keeps it in an attribute, as text; empty where it is none.

    >>> acl_text(bytes.fromhex("02000000 01000600ffffffff 02000400e8030000"))
    'user::rw-,user:1000:r--'
    """
    head, body = value[: _ACL_HEAD.size], value[_ACL_HEAD.size :]
    if head != _ACL_HEAD.pack(_ACL_VERSION) or len(body) % _ACL_ENTRY.size:
        return ""
    rows = list(_ACL_ENTRY.iter_unpack(body))
    if any(tag not in _ACL_TAGS for tag, _, _ in rows):
        return ""
    return ",".join(
        f"{_ACL_TAGS[tag]}{who if tag in _ACL_NAMED else ''}:{_permissions(bits)}"
        for tag, bits, who in rows
    )


def acl_value(text: str) -> bytes:
    """Return a POSIX ACL told as text as Linux keeps it in an attribute; empty where it is none.

    Names of users and groups count by the number that star puts behind the permissions, if it did.

    >>> acl_value("user::rw-,user:1000:r--").hex()
    '0200000001000600ffffffff02000400e8030000'
    """
    entries = []
    for line in filter(None, re.split(r"[,\n]", text)):
        found = _ACL_LINE.fullmatch(line.strip())
        if found is None or (found["who"] and not (found["number"] or found["who"].isdigit())):
            return b""
        number = int(found["number"] or found["who"]) if found["who"] else _NO_ONE
        tag = _TAGS[found["tag"][0], bool(found["who"])]
        bits = sum(bit for letter, bit in _BITS if letter in found["bits"])
        if number > _NO_ONE:
            return b""
        entries.append((tag, bits, number))
    order = sorted(entries, key=lambda one: (one[0], one[2]))
    rows = b"".join(_ACL_ENTRY.pack(*one) for one in order)
    return _ACL_HEAD.pack(_ACL_VERSION) + rows if rows else b""


def _permissions(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for letter, bit in _BITS)


def sparse_records(size: int) -> bytes:
    """Return the records that make of a member a sparse file in GNU tar's format 1.0.

    Its name is one more, ``GNU.sparse.name``, which stands with the other names.
    """
    return (
        record(b"GNU.sparse.major", b"1")
        + record(b"GNU.sparse.minor", b"0")
        + record(b"GNU.sparse.realsize", b"%d" % size)
    )


def sparse_map(data: Sequence[tuple[int, int]], size: int) -> bytes:
    """Return the map that precedes the data of a sparse member, in whole blocks.

    It ends with an empty run at the end of the file: without it GNU tar takes the end of the last
    run for the end of the file.
    """
    runs = [*data, (size, 0)]
    lines = b"%d\n" % len(runs) + b"".join(b"%d\n%d\n" % run for run in runs)
    return lines + bytes(-len(lines) % BLOCK_BYTES)
