"""Reading a file's bytes, noticing whether it changed meanwhile."""

from __future__ import annotations

import os
import stat

from backup.model import Entry


def read_range(descriptor: int, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset`` on, or as many as there are before the end.

    Raises:
        OSError: The file cannot be read.
    """
    data = os.pread(descriptor, length, offset)
    if not data or len(data) == length:
        return data
    # The system may return less than it was asked for, long before the end.
    pieces = [data]
    missing = length - len(data)
    while missing and (data := os.pread(descriptor, missing, offset + length - missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def same_file(before: os.stat_result, after: os.stat_result) -> bool:
    """Return whether both describe the same file with the same content.

    The change time, which nobody can set, gives away a write that was followed by setting the
    modification time back.
    """
    return (
        before.st_ino == after.st_ino
        and before.st_dev == after.st_dev
        and before.st_size == after.st_size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
    )


def matches_entry(entry: Entry, status: os.stat_result) -> bool:
    """Return whether ``status`` is that of the regular file which ``entry`` was made from."""
    return (
        stat.S_ISREG(status.st_mode)
        and entry.inode == status.st_ino
        and entry.size == status.st_size
        and entry.mtime_ns == status.st_mtime_ns
        and entry.ctime_ns == status.st_ctime_ns
    )
