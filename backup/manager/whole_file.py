"""Reading a file that fits into a frame, as it is at that moment, whatever was listed before."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from backup.archive.records import BLOCK_BYTES
from backup.clock import now_ns
from backup.manager.fitting import fit_entry
from backup.manager.plan import Member, header_bound
from backup.model import Entry
from backup.sources.attributes import read_attributes
from backup.sources.descriptors import FileOpener
from backup.sources.reading import matches_entry, same_file
from backup.sources.sparse import may_have_holes, read_map, read_stored

_RACY_NS = 2_000_000_000
CHANGED = "changed while it was read"
_STEP = 64 * 1024
_GREW = "grew beyond its frame after it was listed"


def read_whole(
    opener: FileOpener, entry: Entry, *, room: int, capacity: int
) -> tuple[Entry, bytes | None]:
    """Return a file's entry and what is stored of it; read once more where it changed in between.

    What happened between the walk and now is no concern: the entry tells the file as it was
    when it was read. A file whose size says nothing, as in ``/proc``, has the content that two
    readings agree on.

    Args:
        opener: Opens it.
        entry: The file as it was listed.
        room: How many bytes of the piece it may take, its header included.
        capacity: How many bytes a whole piece may have.

    Returns:
        The entry, with an error where it did not rest, and the bytes, ``None`` where there are
        none to store.
    """
    before: _Reading | None = None
    try:
        for _ in range(2):
            now = _read_once(opener, entry, room, capacity)
            if now.is_steady or (before is not None and now.repeats(before)):
                return now.entry, now.data
            before, entry = now, now.entry
    except OSError as error:
        return replace(entry, error=error.strerror or str(error)), None
    return replace(entry, error=CHANGED), now.data


class _Reading(NamedTuple):
    """One attempt: what was read, and what the system said before and after it."""

    entry: Entry
    data: bytes
    before: os.stat_result
    after: os.stat_result
    is_whole: bool

    @property
    def is_steady(self) -> bool:
        untouched = self.is_whole and same_file(self.before, self.after)
        return untouched and self.entry.size == self.before.st_size

    def repeats(self, other: _Reading) -> bool:
        """Return whether both found the same, though not what the size had promised."""
        rested = same_file(other.before, self.before) and same_file(self.before, self.after)
        return rested and self.is_whole and self.data == other.data


def _read_once(opener: FileOpener, entry: Entry, room: int, capacity: int) -> _Reading:
    file, before = opener.open_with_status(entry)
    try:
        if not matches_entry(entry, before):
            entry, _ = fit_entry(_as_it_is(entry, file, before), capacity)
        most = max(room - header_bound(Member(entry)), 0) // BLOCK_BYTES * BLOCK_BYTES
        wanted = entry.stored_size
        if entry.data is not None and wanted > most:
            raise OSError(errno.EFBIG, _GREW)
        if before.st_size:
            data = read_stored(file, entry.data, 0, min(wanted, most))
        else:
            found = b"".join(_read_unsized(file, most))
            wanted, data = len(found), found[:most]
        after = os.fstat(file)
    finally:
        os.close(file)
    size = len(data) if entry.data is None else entry.size
    racy = entry.racy or is_racy(entry)
    if (size, racy) != (entry.size, entry.racy):
        entry = replace(entry, size=size, racy=racy)
    return _Reading(entry, data, before, after, is_whole=wanted <= most)


def _read_unsized(file: int, most: int) -> Iterator[bytes]:
    """Yield what is in a file that says it is empty, up to a block above ``most`` bytes.

    The kernel makes up such contents for each call, and refuses calls that ask for much.
    """
    at = 0
    while at <= most and (data := os.pread(file, _STEP, at)):
        yield data
        at += len(data)


def is_racy(entry: Entry) -> bool:
    """Tell whether ``entry`` changed so shortly ago that a further change could go unnoticed.

    Clocks of file systems tick as slowly as every 2 seconds (FAT), and most kernels stamp a file
    with the time of their last tick.
    """
    return now_ns() - max(entry.mtime_ns, entry.ctime_ns) < _RACY_NS


def _as_it_is(entry: Entry, file: int, status: os.stat_result) -> Entry:
    return replace(
        entry,
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        links=entry.links if status.st_ino == entry.inode else 1,
        xattrs=read_attributes(file),
        data=read_map(file, status.st_size) if may_have_holes(status) else None,
    )
