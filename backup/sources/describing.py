"""Turning what the system says about a name into an entry."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import NamedTuple

from backup.model import Entry, EntryType
from backup.sources.filesystems import FilesystemTable

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_DEVICES = frozenset({EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE})


class Skipped(NamedTuple):
    """Something that a walk left out: a name or, after a directory's entry, what is in it."""

    path: bytes
    reason: str
    is_error: bool


class Describer:
    """Makes entries, remembering the owners and the file systems that it has met."""

    def __init__(self) -> None:
        self.table = FilesystemTable()
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}

    def describe(
        self, path: bytes, status: os.stat_result, name: bytes, directory: int
    ) -> Entry | Skipped:
        """Return the entry for ``path``, or why there is none.

        Args:
            path: The path of the entry.
            status: What the system says about it, links not followed.
            name: What it is called in ``directory``.
            directory: The descriptor of the directory that it lies in.

        Raises:
            OSError: It is a symbolic link that cannot be read.
        """
        kind = _TYPES.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            is_socket = stat.S_ISSOCK(status.st_mode)
            return Skipped(path, "socket" if is_socket else "unknown file type", not is_socket)
        is_link = kind is EntryType.SYMLINK
        return Entry(
            path=path,
            type=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            user=self._user(status.st_uid),
            group=self._group(status.st_gid),
            size=status.st_size if kind is EntryType.FILE else 0,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
            filesystem=self.table.ordinal(status.st_dev),
            # What a directory's count means depends on its file system; names it has just one.
            links=1 if kind is EntryType.DIRECTORY else status.st_nlink,
            target=os.readlink(name, dir_fd=directory) if is_link else b"",
            device=_device(status) if kind in _DEVICES else None,
        )

    def _user(self, uid: int) -> str:
        name = self._users.get(uid)
        if name is None:
            name = self._users[uid] = _user_name(uid)
        return name

    def _group(self, gid: int) -> str:
        name = self._groups.get(gid)
        if name is None:
            name = self._groups[gid] = _group_name(gid)
        return name


def _device(status: os.stat_result) -> tuple[int, int]:
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _user_name(uid: int) -> str:
    try:
        return _clean(pwd.getpwuid(uid).pw_name)
    except KeyError:
        return ""


def _group_name(gid: int) -> str:
    try:
        return _clean(grp.getgrgid(gid).gr_name)
    except KeyError:
        return ""


def _clean(name: str) -> str:
    # The system hands over bytes; what is not UTF-8 could not be written down as text.
    return os.fsencode(name).decode("utf-8", "replace")
