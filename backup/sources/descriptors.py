"""Reaching directories and files by descriptors, so that no symbolic link is ever followed."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Self

from backup.model import Entry

_KEPT_LEVELS = 48
"""How many of the deepest directories of a chain stay open; the rest is opened again at need."""

_CLOSED = -1

# O_PATH asks for no permission on the directory itself: one that cannot be listed can be described.
_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK and O_NOCTTY keep a pipe or a terminal that took a file's place from doing harm.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class NotRegularError(OSError):
    """Something else has taken the place of a regular file."""


class DirectoryChain:
    """The descriptors of the directories between ``/`` and the one last asked for.

    Each directory is opened by its name in its parent. So paths may be longer than the system
    allows, and a directory that was swapped for a symbolic link is an error rather than a way out.
    Asking in walking order costs about one system call per directory.
    """

    def __init__(self) -> None:
        self._directory: bytes | None = b""
        self._names: list[bytes] = []
        self._descriptors = [os.open(b"/", _PASS)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, directory: bytes) -> int:
        """Return a descriptor for ``directory``, good for use as ``dir_fd``.

        Args:
            directory: The absolute path without its leading ``/``.

        Returns:
            A descriptor that stays the chain's, and stays open until the next call.

        Raises:
            OSError: It is missing, is not a directory, or may not be reached.
        """
        if directory != self._directory:
            self._directory = None
            self._go_to(directory.split(b"/") if directory else [])
            self._directory = directory
        return self._descriptors[-1]

    def close(self) -> None:
        """Close all descriptors; closing twice is the same as closing once."""
        self._leave(0)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _go_to(self, names: list[bytes]) -> None:
        common = 0
        for ours, theirs in zip(self._names, names, strict=False):
            if ours != theirs:
                break
            common += 1
        self._leave(common)
        for name in names[len(self._names) :]:
            self._enter(name)

    def _leave(self, level: int) -> None:
        """Go up to ``level``, and on to the next directory whose descriptor is still open."""
        while len(self._names) > level or self._descriptors[-1:] == [_CLOSED]:
            descriptor = self._descriptors.pop()
            self._names.pop()
            if descriptor != _CLOSED:
                os.close(descriptor)

    def _enter(self, name: bytes) -> None:
        self._descriptors.append(os.open(name, _PASS, dir_fd=self._descriptors[-1]))
        self._names.append(name)
        surplus = len(self._names) - _KEPT_LEVELS
        if surplus > 0 and self._descriptors[surplus] != _CLOSED:
            os.close(self._descriptors[surplus])
            self._descriptors[surplus] = _CLOSED


class FileOpener:
    """Open the regular files of a walk for reading.

    It needs nothing but the entries, so that every worker process can make its own. Entries in
    walking order cost about one system call each.
    """

    def __init__(self) -> None:
        self._chain = DirectoryChain()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def open(self, entry: Entry) -> int:
        """Return a descriptor for the content of ``entry``, which the caller closes.

        Whether the file is still the one that ``entry`` describes is for the caller to find out,
        with ``matches_entry``.

        Raises:
            NotRegularError: Something other than a regular file lies there now.
            OSError: It is missing, may not be read, or a symbolic link has taken the place of it or
                of a directory on the way.
        """
        return self.open_with_status(entry)[0]

    def open_with_status(self, entry: Entry) -> tuple[int, os.stat_result]:
        """Return what ``open`` does, and what the system said about the file once it was open.

        Raises:
            OSError: See ``open``.
        """
        directory, _, name = entry.path.rpartition(b"/")
        return open_file(name, self._chain.open(directory))

    def close(self) -> None:
        """Close what is kept open between files."""
        self._chain.close()


def open_file(name: bytes, directory: int) -> tuple[int, os.stat_result]:
    """Return a descriptor for the content of ``name`` in the open ``directory``, and its status.

    Raises:
        NotRegularError: Something other than a regular file lies there.
        OSError: It is missing, may not be read, or is a symbolic link.
    """
    descriptor = _open_untouched(name, _READ, directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegularError(errno.EINVAL, "no longer a regular file")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def list_names(directory: int) -> list[bytes]:
    """Return the names in the open ``directory``, in no order.

    Raises:
        OSError: The directory cannot be listed.
    """
    descriptor = _open_untouched(b".", _LIST, directory)
    try:
        names = os.listdir(descriptor)  # noqa: PTH208 - pathlib knows no descriptors
    finally:
        os.close(descriptor)
    # As bytes, all at once: one by one that takes as long as to list them.
    return os.fsencode("\0".join(names)).split(b"\0") if names else []


def _open_untouched(name: bytes, flags: int, directory: int) -> int:
    """Open ``name`` without marking it as read, where the system lets us."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
    except OSError as error:
        # Only the owner of a file may leave its access time alone.
        if error.errno != errno.EPERM:
            raise
    return os.open(name, flags, dir_fd=directory)
