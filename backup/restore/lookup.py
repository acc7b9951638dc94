"""Looking at what exists below a target, without changing it and without following any link."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from backup.errors import RestoreError, UnsafePathError
from backup.restore.decision import Found
from backup.restore.descriptors import (
    DIRECTORY_FLAGS,
    DirectoryChain,
    close_quietly,
    os_errors,
    restore_error,
)
from backup.restore.removal import Doomed, Spared, survey

_HANDLE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ABSENT = (errno.ENOENT, errno.ENAMETOOLONG)


class Lookup:
    """Tells what exists below ``target``, which itself need not exist.

    Paths asked for in walking order cost one system call each, or two with details.

    Args:
        target: The directory.
        details: Whether targets of links and attributes are wanted.
    """

    def __init__(self, target: Path, *, details: bool) -> None:
        self._details = details
        self._target = Path(os.path.realpath(target))
        self._root = _open(self._target)
        self._chain = DirectoryChain(self._root)
        self._absent: bytes | None = b"" if self._root < 0 else None

    def close(self) -> None:
        """Close all descriptors."""
        self._chain.close()
        if self._root >= 0:
            close_quietly(self._root)
        self._root = -1

    def directory(self, path: bytes) -> int | None:
        """Return the descriptor of the directory ``path``, valid until the next call.

        Raises:
            RestoreError: Something on the way, or at its end, is no directory, or closed to us.
        """
        if self._is_absent(path):
            return None
        try:
            return self._chain.open(path, create=False)
        except UnsafePathError:
            raise
        except RestoreError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _ABSENT:
                self._absent = path
                return None
            raise

    def find(self, path: bytes) -> Found | None:
        """Return what exists at ``path``, ``None`` where nothing does.

        Raises:
            RestoreError: See ``directory``.
        """
        above, _, name = path.rpartition(b"/")
        directory = self.directory(above)
        if directory is None:
            return None
        try:
            return self._look(directory, name or b".")
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise restore_error(path, error) from error

    def file_system(self, path: bytes) -> tuple[int, os.statvfs_result]:
        """Return device and state of the file system on which the directory ``path`` is to be."""
        while True:
            with suppress(RestoreError):
                directory = self.directory(path)
                if directory is not None:
                    return os.fstat(directory).st_dev, os.fstatvfs(directory)
            if not path:
                break
            path = path.rpartition(b"/")[0]
        above = self._target
        while not above.exists():
            above = above.parent
        return above.stat().st_dev, os.statvfs(above)

    def blocker(self, path: bytes) -> bytes | None:
        """Return the first step on the way to ``path`` that is there and is no directory."""
        names = path.split(b"/")
        for depth in range(1, len(names)):
            step = b"/".join(names[:depth])
            try:
                found = self.find(step)
            except RestoreError:
                return None
            if found is not None and not found.is_directory:
                return step
        return None

    def _is_absent(self, path: bytes) -> bool:
        absent = self._absent
        return absent is not None and (
            not absent or path == absent or path.startswith(absent + b"/")
        )

    def _look(self, directory: int, name: bytes) -> Found:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return Found(status, xattrs=self._attributes(directory, name))
        if not self._details:
            return Found(status)
        is_link = stat.S_ISLNK(status.st_mode)
        target = os.readlink(name, dir_fd=directory) if is_link else b""
        return Found(status, target, self._attributes(directory, name))

    def _attributes(self, directory: int, name: bytes) -> dict[bytes, bytes] | None:
        if not self._details:
            return None
        handle = os.open(name, _HANDLE_FLAGS, dir_fd=directory)
        try:
            node = f"/proc/self/fd/{handle}"
            return {os.fsencode(one): os.getxattr(node, one) for one in os.listxattr(node)}
        except OSError:  # a file system, or a kind of file, that has none
            return {}
        finally:
            close_quietly(handle)

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in the directory ``path``, sorted.

        Raises:
            RestoreError: It cannot be listed.
        """
        directory = self.directory(path)
        if directory is None:
            return []
        with os_errors(path), os.scandir(directory) as names:
            return sorted(os.fsencode(one.name) for one in names)

    def survey(self, path: bytes, spared: Callable[[bytes], str]) -> Doomed | Spared:
        """Return what deleting ``path`` would take away; see ``removal.survey``."""
        return survey(self._chain, path, spared)

    def is_full(self, path: bytes) -> bool:
        """Return whether the directory ``path`` has something in it."""
        directory = self.directory(path)
        if directory is None:
            return False
        with os_errors(path), os.scandir(directory) as names:
            return next(names, None) is not None


def _open(target: Path) -> int:
    try:
        return os.open(target, DIRECTORY_FLAGS)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise RestoreError(f"cannot restore to {target}: {error.strerror}") from error
