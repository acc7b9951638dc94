"""Giving something that is complete its name, at one stroke, whatever has that name before."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress

from backup.errors import RestoreError
from backup.restore.descriptors import DirectoryChain, exchange, publish, sync_file_system
from backup.restore.removal import Doomed, remove

_BATCH_FILES = 256
_BATCH_BYTES = 128 * 2**20


def partial_name() -> bytes:
    """Return a name under which nothing else is."""
    return b".auto-backup-%s.partial" % secrets.token_hex(8).encode()


class Replacer:
    """Gives what has been made beside something its name; the old one is whole until then.

    Args:
        chain: Ways below the target.
        doomed: Directories that may go away with all that is in them.
    """

    def __init__(self, chain: DirectoryChain, doomed: Mapping[bytes, Doomed]) -> None:
        self._chain = chain
        self._doomed = doomed

    def put(self, partial: bytes, path: bytes, *, replace: bool) -> None:
        """Rename ``partial``, which is no directory, to the last name of ``path``.

        Args:
            partial: What has been made, in the directory of ``path``; gone if this fails.
            path: What it is to be.
            replace: Whether something may be there already.

        Raises:
            RestoreError: A directory is there that may not go away.
            OSError: The system refuses.
        """
        above, _, name = path.rpartition(b"/")
        parent = self._chain.open(above, create=False)
        try:
            if replace:
                self._rename(parent, partial, path)
            else:
                publish(parent, partial, name)
        except BaseException:
            parent = self._chain.open(above, create=False)
            with suppress(OSError):
                os.unlink(partial, dir_fd=parent)
            raise

    def put_directory(self, partial: bytes, path: bytes) -> None:
        """Rename the directory ``partial`` to the last name of ``path``, where something else is.

        Raises:
            OSError: The system refuses.
        """
        above, _, name = path.rpartition(b"/")
        parent = self._chain.open(above, create=False)
        try:
            if exchange(parent, partial, name):
                os.unlink(partial, dir_fd=parent)
            else:
                os.unlink(name, dir_fd=parent)
                os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
        except OSError:
            with suppress(OSError):
                os.rmdir(partial, dir_fd=parent)
            raise

    def _rename(self, parent: int, partial: bytes, path: bytes) -> None:
        above, _, name = path.rpartition(b"/")
        try:
            os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
        except IsADirectoryError:
            if path in self._doomed:
                remove(self._chain, path, self._doomed[path])
                parent = self._chain.open(above, create=False)
            else:
                os.rmdir(name, dir_fd=parent)
            os.rename(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
        with suppress(FileNotFoundError):  # of two names of one file, both stay
            os.unlink(partial, dir_fd=parent)


class Batch:
    """Files that wait to take the places of others until they are on the disk.

    Without that, a power failure just after the renaming could leave a name with neither of the
    two; and to wait for the disk file by file would take ten times as long.

    Args:
        chain: Ways below the target.
        replacer: What gives them their names.
    """

    def __init__(self, chain: DirectoryChain, replacer: Replacer) -> None:
        self._chain = chain
        self._replacer = replacer
        self._waiting: dict[bytes, bytes] = {}
        self._size = 0

    def __contains__(self, path: bytes) -> bool:
        return path in self._waiting

    def add(self, partial: bytes, path: bytes, size: int) -> bool:
        """Let ``partial`` wait for the name ``path``; return whether it is time to ``flush``."""
        self._waiting[path] = partial
        self._size += size
        return len(self._waiting) >= _BATCH_FILES or self._size >= _BATCH_BYTES

    def flush(self) -> Iterator[bytes]:
        """Bring all to the disk, and yield each path whose name is to be given by ``put``.

        Raises:
            OSError: The system refuses; then none gets its name.
        """
        synced = set()
        for path in self._waiting:
            directory = self._chain.open(path.rpartition(b"/")[0], create=False)
            device = os.fstat(directory).st_dev
            if device not in synced:
                sync_file_system(directory)
                synced.add(device)
        self._size = 0
        yield from list(self._waiting)

    def put(self, path: bytes) -> None:
        """Give one its name; see ``Replacer.put``."""
        self._replacer.put(self._waiting.pop(path), path, replace=True)

    def discard(self) -> None:
        """Delete those that still wait."""
        for path, partial in self._waiting.items():
            with suppress(OSError, RestoreError):
                directory = self._chain.open(path.rpartition(b"/")[0], create=False)
                os.unlink(partial, dir_fd=directory)
        self._waiting.clear()
