"""Owner, attributes, mode and times of what has been restored."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from backup.errors import RestoreError
from backup.model import Entry, EntryType, path_text
from backup.restore.descriptors import close_quietly

_TAKEN_AWAY = frozenset(
    {b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"}
)
_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
_NO_ID = 2**32 - 1  # to chown it means: leave as it is
_MAJORS, _MINORS = 2**12, 2**20  # what Linux has room for
_HANDLE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def is_taken_away(name: bytes) -> bool:
    """Return whether an attribute that was not saved goes; the system's own ones, labels, stay."""
    return name in _TAKEN_AWAY or name.startswith((b"user.", b"trusted."))


class MetadataSetter:
    """Gives nodes the owner, attributes, mode and times of their entries.

    Args:
        problems: Where to add the path and the reason of what cannot be set.
        set_owner: See TreeWriter.
    """

    def __init__(self, problems: list[tuple[bytes, str]], *, set_owner: bool | None) -> None:
        self._problems = problems
        self._any_owner = set_owner is False
        self._set_owner = os.geteuid() == 0 if set_owner is None else set_owner

    def set(self, node: int | str, entry: Entry, status: os.stat_result) -> None:
        """Set all that ``entry`` says on ``node``, in the one order in which each of it stays.

        Args:
            node: A descriptor, or the name in ``/proc`` of one that only marks a place.
            entry: What to set.
            status: What ``node`` is now.
        """
        owned = self._own(node, entry, status)  # takes setuid bits and capabilities away
        for name, value in entry.xattrs:
            if owned or name.startswith(b"user."):
                self._try(entry, f"attribute {name!r}", os.setxattr, node, name, value)
            else:
                self._note(entry, f"attribute {name!r} not set: it is for another owner")
        if not stat.S_ISLNK(status.st_mode):
            self._drop_others(node, entry)
            self._try(entry, "mode", os.chmod, node, self._mode(entry, owned=owned))
        times = (entry.mtime_ns, entry.mtime_ns)
        self._try(entry, "times", lambda: os.utime(node, ns=times))

    def _drop_others(self, node: int | str, entry: Entry) -> None:
        """Take away what was added since, and ACLs that a directory passes on to what it gets."""
        saved = {name for name, _ in entry.xattrs}
        with suppress(OSError):  # what cannot be listed is none, mostly
            for name in map(os.fsencode, os.listxattr(node)):
                if is_taken_away(name) and name not in saved:
                    self._try(entry, f"attribute {name!r}", os.removexattr, node, name)

    def _mode(self, entry: Entry, *, owned: bool) -> int:
        mode = stat.S_IMODE(entry.mode)
        if owned or not mode & _SET_ID_BITS:
            return mode
        self._note(entry, "setuid and setgid not set: they are for another owner")
        return mode & ~_SET_ID_BITS

    def _own(self, node: int | str, entry: Entry, status: os.stat_result) -> bool:
        """Return whether the node has its owner, which is set if that is wanted and needed."""
        if self._any_owner:
            return False
        if (status.st_uid, status.st_gid) == (entry.uid, entry.gid):
            return True
        owner = f"owner {entry.uid}:{entry.gid}"
        if not self._set_owner:
            self._note(entry, f"{owner} not set: only root may")
            return False
        if not (0 <= entry.uid < _NO_ID and 0 <= entry.gid < _NO_ID):
            self._note(entry, f"{owner} not set: out of range")
            return False
        return self._try(entry, owner, os.chown, node, entry.uid, entry.gid)

    def _try(self, entry: Entry, what: str, call: Callable[..., None], *arguments: object) -> bool:
        try:
            call(*arguments)
        except (OSError, OverflowError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "out of range"
            self._note(entry, f"{what} not set: {reason}")
            return False
        return True

    def _note(self, entry: Entry, problem: str) -> None:
        self._problems.append((entry.path, problem))


class Node:
    """A handle of one file of any type, which must not be opened or may not be.

    By its name, even without following links, somebody who may write to the directory could put
    a hard link to a foreign file in its place before its owner is set.

    Raises:
        RestoreError: It has other names, which may be those of a foreign file, or is not what was
            looked at.
        OSError: The system refuses.
    """

    def __init__(self, parent: int, name: bytes, path: bytes) -> None:
        self._path = path
        self._handle = os.open(name, _HANDLE_FLAGS, dir_fd=parent)
        self.status = os.fstat(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        close_quietly(self._handle)

    def check(self, *, kind: int | None = None, identity: tuple[int, int] | None = None) -> None:
        """Refuse what is not of ``kind``, not the file ``identity``, or has another name."""
        status = self.status
        if (
            (kind is not None and stat.S_IFMT(status.st_mode) != kind)
            or (identity is not None and (status.st_dev, status.st_ino) != identity)
            or status.st_nlink != 1
        ):
            raise RestoreError(f"cannot restore {path_text(self._path)!r}: it was replaced")

    def set(self, metadata: MetadataSetter, entry: Entry) -> None:
        """Give it the metadata of ``entry``."""
        metadata.set(f"/proc/self/fd/{self._handle}", entry, self.status)


def device_number(entry: Entry) -> int:
    """Return the number of the device that ``entry`` is, 0 for a FIFO.

    Raises:
        RestoreError: There is no such device.
    """
    if entry.type is EntryType.FIFO:
        return 0
    major, minor = entry.device or (-1, -1)
    if 0 <= major < _MAJORS and 0 <= minor < _MINORS:
        return os.makedev(major, minor)
    text = f"there is no such device as {entry.device}"
    raise RestoreError(f"cannot restore {path_text(entry.path)!r}: {text}")
