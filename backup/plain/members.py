"""What becomes of an entry in an archive: its name, and what the format has no place for."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from msgspec.structs import replace

from backup.model import Entry, EntryType
from backup.plain.zip_records import LONGEST_NAME, ZipMember, zip_name
from backup.sources.roots import Root

_NANOSECONDS = 1_000_000_000
_TYPE_BITS = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
}
NOT_IN_ZIP = {
    EntryType.FIFO: "a named pipe, for which zip has no place",
    EntryType.CHARACTER_DEVICE: "a device, for which zip has no place",
    EntryType.BLOCK_DEVICE: "a device, for which zip has no place",
}


def name_start(roots: Sequence[Root]) -> int:
    """Return how many bytes of each path are not part of its name in an archive.

    One source keeps its own name and loses all before it; several lose what they have in common,
    so that no two get the same name.

    >>> name_start([Root(b"home/ann/docs", True)])
    9
    >>> name_start([Root(b"home/ann/docs", True), Root(b"home/bob/docs", True)])
    5
    """
    above = [root.path.rpartition(b"/")[0] for root in roots]
    common = os.path.commonpath(above)
    return len(common) + 1 if common else 0


class ZipFit:
    """Makes entries fit into a zip file."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._escaped: set[bytes] = set()

    def refusal(self, entry: Entry) -> str:
        """Return why there can be no such member, ``""`` where there can."""
        name = entry.path[self._start :]
        if b"\\" in name or not _is_utf8(name):
            told = zip_name(name)
            if told in self._escaped:
                return "its name, escaped, is that of another one"
            self._escaped.add(told)
        if len(zip_name(name)) >= LONGEST_NAME:
            return "its path is too long for a zip file"
        return ""

    def new_name(self, entry: Entry) -> str:
        """Return what it is called where that is not its own name, else ``""``."""
        name = entry.path[self._start :]
        return "" if _is_utf8(name) else zip_name(name).decode()

    def fit(self, entry: Entry) -> Entry:
        """Return ``entry`` without what a zip file does not know: holes, links, attributes."""
        if entry.links <= 1 and not entry.xattrs and entry.data is None:
            return entry
        return replace(entry, links=1, xattrs=(), data=None)


def zip_member(entry: Entry, start: int) -> ZipMember:
    """Return the member for ``entry``, whose content nobody has read yet."""
    name = zip_name(entry.path[start:])
    return ZipMember(
        name=name + b"/" if entry.type is EntryType.DIRECTORY else name,
        mode=entry.mode | _TYPE_BITS[entry.type],
        seconds=entry.mtime_ns // _NANOSECONDS,
        uid=entry.uid,
        gid=entry.gid,
        size=entry.size,
    )


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
