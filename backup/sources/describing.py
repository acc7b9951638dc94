"""Turning what the system says about a name into an entry."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Callable
from typing import NamedTuple

from backup.model import Entry, EntryType
from backup.sources.attributes import Attributes, attributes_at
from backup.sources.descriptors import open_file
from backup.sources.filesystems import FilesystemTable
from backup.sources.reading import same_file
from backup.sources.rules import Rule
from backup.sources.sparse import Runs, may_have_holes, read_map

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
    rule: Rule | None = None


class Describer:
    """Makes entries, remembering the owners and the file systems that it has met.

    ``remarks`` tells the entries that lack something which could not be read.
    """

    def __init__(self) -> None:
        self.table = FilesystemTable()
        self.remarks: list[Skipped] = []
        self._users = _Names(_user_name)
        self._groups = _Names(_group_name)

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
        mode, uid, gid = status.st_mode, status.st_uid, status.st_gid
        kind = _TYPES.get(stat.S_IFMT(mode))
        if kind is None:
            is_socket = stat.S_ISSOCK(mode)
            return Skipped(path, "socket" if is_socket else "unknown file type", not is_socket)
        filesystem = self.table.ordinal(status.st_dev)
        size = status.st_size if kind is EntryType.FILE else 0
        data = None
        if size and self.table.invents_sizes(filesystem):
            size = 0  # whoever reads it finds out how much there is
        elif size and may_have_holes(status):
            data = _map_of(name, directory, status)
        return Entry(
            path=path,
            type=kind,
            mode=stat.S_IMODE(mode),
            uid=uid,
            gid=gid,
            user=self._users[uid],
            group=self._groups[gid],
            size=size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            inode=status.st_ino,
            filesystem=filesystem,
            # What a directory's count means depends on its file system; names it has just one.
            links=1 if kind is EntryType.DIRECTORY else status.st_nlink,
            target=os.readlink(name, dir_fd=directory) if kind is EntryType.SYMLINK else b"",
            device=_device(status) if kind in _DEVICES else None,
            xattrs=self._attributes(path, name, directory, status),
            data=data,
        )

    def _attributes(
        self, path: bytes, name: bytes, directory: int, status: os.stat_result
    ) -> Attributes:
        try:
            found = attributes_at(name, directory)
        except OSError as error:
            self._remark(path, error.strerror or str(error))
            return ()
        # Of regular files this is found out by who reads them.
        if found and not stat.S_ISREG(status.st_mode):
            now = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not same_file(now, status):
                self._remark(path, "it was changed while they were read")
        return found

    def _remark(self, path: bytes, reason: str) -> None:
        text = f"extended attributes are missing or doubtful: {reason}"
        self.remarks.append(Skipped(path, text, is_error=True))


class _Names(dict[int, str]):
    """Names by number; each is asked from the system once."""

    def __init__(self, find: Callable[[int], str]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, number: int) -> str:
        name = self[number] = self._find(number)
        return name


def _map_of(name: bytes, directory: int, status: os.stat_result) -> Runs | None:
    """Return where the file has data; whoever reads it finds out if that has changed since."""
    try:
        descriptor, now = open_file(name, directory)
        try:
            if same_file(now, status):
                return read_map(descriptor, status.st_size)
        finally:
            os.close(descriptor)
    except OSError:
        pass  # it cannot be read, which is told when its turn comes
    return None


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
