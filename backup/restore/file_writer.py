"""Writing files below a target: complete under a hidden name before they get their own."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from backup.errors import DigestError, RestoreError
from backup.model import Entry, path_text
from backup.restore.descriptors import close_quietly, os_errors
from backup.restore.removal import Doomed
from backup.restore.replacing import Replacer
from backup.restore.target_tree import READ_FLAGS, TargetTree
from backup.snapshot.content import pieces_in_a_row, place_runs

_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FLAGS = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 20


Fill = Callable[[int], object]
"""Writes a content to a descriptor."""


class FileWriter(TargetTree):
    """Writes files; what a process of a restore needs that writes nothing else.

    Args:
        target: See TargetTree.
        set_owner: See TargetTree.
        doomed: Directories that may be replaced with all that is in them.
    """

    def __init__(
        self,
        target: Path | int,
        *,
        set_owner: bool | None = None,
        doomed: Mapping[bytes, Doomed] | None = None,
    ) -> None:
        super().__init__(target, set_owner=set_owner)
        self._replacer = Replacer(self._chain, doomed or {})

    def write_hidden(
        self, entry: Entry, fill: Fill, hidden: bytes, *, publish: bool
    ) -> os.stat_result:
        """Write a file under a hidden name, and return what it is.

        What has that name is of an earlier try, whose process was killed, and is deleted. When
        ``fill`` raises nothing is left behind, and the exception goes on to the caller.

        Args:
            entry: The file.
            fill: Writes its content.
            hidden: Its hidden name.
            publish: Whether it gets its own name at once, which nothing may have.

        Raises:
            RestoreError: The name exists, or the system refuses.
        """
        parent, _ = self._place(entry.path)
        try:  # from here on: a signal may come as soon as the file is there
            descriptor = _create(parent, hidden, entry.path)
            status = self._fill(descriptor, entry, fill)
            if publish:
                with os_errors(entry.path):
                    self._replacer.put(hidden, entry.path, replace=False)
        except BaseException:
            with suppress(OSError):
                os.unlink(hidden, dir_fd=parent)
            raise
        return status

    def remove_hidden(self, path: bytes, hidden: bytes) -> None:
        """Delete what was left of writing ``path`` under a hidden name, if anything was."""
        with suppress(RestoreError, OSError):
            directory = self._chain.open(path.rpartition(b"/")[0], create=False)
            os.unlink(hidden, dir_fd=directory)

    def open_hidden(self, path: bytes, hidden: bytes, identity: tuple[int, int]) -> int:
        """Return a descriptor for writing to the file ``identity`` that is beside ``path``.

        Raises:
            RestoreError: Something else is there by now, or nothing.
        """
        parent, _ = self._place(path)
        with os_errors(path):
            file = os.open(hidden, _OPEN_FLAGS, dir_fd=parent)
            status = os.fstat(file)
        if (status.st_dev, status.st_ino) != identity:
            close_quietly(file)
            raise RestoreError(f"cannot restore {path_text(path)!r}: it was replaced")
        return file

    def has_made(self, entry: Entry, data: memoryview) -> bool:
        """Return whether ``entry`` is there, as an earlier try makes it that was killed after it.

        Its metadata, which may have been a problem, is set again.
        """
        parent, name = self._place(entry.path)
        try:
            file = os.open(name, READ_FLAGS, dir_fd=parent)
        except OSError:
            return False
        try:
            status = os.fstat(file)
            if not (
                stat.S_ISREG(status.st_mode)
                and (status.st_nlink, status.st_size) == (1, len(data))
                and status.st_mtime_ns == entry.mtime_ns
                and _holds(file, data)
            ):
                return False
            self._metadata.set(file, entry, status)
            return True
        finally:
            close_quietly(file)

    def _fill(self, descriptor: int, entry: Entry, fill: Fill) -> os.stat_result:
        """Write content and metadata, and close ``descriptor`` in any case."""
        try:
            fill(descriptor)
            status = os.fstat(descriptor)
            self._metadata.set(descriptor, entry, status)
        except BaseException:
            close_quietly(descriptor)
            raise
        with os_errors(entry.path):  # some file systems tell only here that they are full
            os.close(descriptor)
        return status


def _create(parent: int, hidden: bytes, path: bytes) -> int:
    with os_errors(path):
        try:
            return os.open(hidden, _FILE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            os.unlink(hidden, dir_fd=parent)
            return os.open(hidden, _FILE_FLAGS, 0o600, dir_fd=parent)


def _holds(file: int, data: memoryview) -> bool:
    at = 0
    while at < len(data):
        block = os.pread(file, min(_BLOCK, len(data) - at), at)
        if not block or data[at : at + len(block)] != block:
            return False
        at += len(block)
    return True


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data``; raises what the system raises."""
    while data:
        done = os.pwrite(descriptor, data, offset)
        if done == len(data):
            return
        data, offset = data[done:], offset + done


def write_pieces(descriptor: int, entry: Entry, pieces: Iterable[bytes | memoryview]) -> None:
    """Write the content of ``entry``; what ``pieces`` raises goes through unchanged.

    Raises:
        DigestError: There are more or fewer bytes than the entry accounts for.
        RestoreError: The system refuses.
    """
    written = 0
    placed = pieces_in_a_row(pieces) if entry.data is None else place_runs(entry.data, pieces)
    for place, given in placed:
        written += len(given)
        if written > entry.stored_size and not entry.error:
            break
        with os_errors(entry.path):
            write_at(descriptor, given, place)
    if written != entry.stored_size and not entry.error:
        amount = "above" if written > entry.stored_size else "below"
        text = f"content {amount} {entry.stored_size} bytes"
        raise DigestError(f"cannot restore {path_text(entry.path)!r}: {text}")
    if entry.data is not None:  # what has not been written up to here are holes
        with os_errors(entry.path):
            os.ftruncate(descriptor, entry.size)
