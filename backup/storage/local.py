"""Stored files in a local directory."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

from backup.clock import Clock, system_clock
from backup.errors import ConfigError, LockedError, StorageError
from backup.storage.base import (
    BaseStorage,
    StoredFile,
    check_name,
    check_range,
    is_name,
    not_found,
)
from backup.storage.directories import (
    Sync,
    close_directory,
    open_directory,
    opened,
    sync_directory,
    walk,
)
from backup.storage.local_writer import NO_LOCKS, LocalWriter, is_partial, remove_stale
from backup.storage.os_errors import as_storage_errors

# Without O_NONBLOCK a FIFO that somebody put there would stop a reader for ever.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

# Where nobody can tell whether a writer lives, it does not if it has not written for so long.
_ABANDONED_SECONDS = 24 * 3600


class LocalStorage(BaseStorage):
    """Keep files in one directory tree.

    Files and directories are for their owner only. Symbolic links inside the tree are neither
    followed nor listed.

    Args:
        root: The directory; created on the first write.
        clock: Tells the age of partial files.
        sync: Makes a file or a directory durable.
    """

    def __init__(self, root: Path, *, clock: Clock = system_clock, sync: Sync = os.fsync) -> None:
        # A daemon changes its working directory later.
        self._root = root.absolute()
        self._clock = clock
        self._sync = sync

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Open the storage at a URL such as ``file:///mnt/backup``."""
        path = os.fsdecode(unquote_to_bytes(url.removeprefix("file://")))
        if not path.startswith("/") or "\0" in path:
            raise ConfigError(
                f"{url!r} is not the URL of a local directory",
                hint="write it with three slashes: file:///mnt/backup",
            )
        return cls(Path(path))

    def __str__(self) -> str:
        return str(self._root)

    @property
    def url(self) -> str:
        """See BaseStorage."""
        return self._root.as_uri()

    def local_root(self) -> Path | None:
        """See BaseStorage."""
        return self._root

    def path_of(self, name: str) -> Path:
        """Return where the file ``name`` is, or would be."""
        return self._root / check_name(name)

    def create(self, name: str, *, replace: bool = False) -> LocalWriter:
        """See BaseStorage."""
        *parents, _ = check_name(name).split("/")
        with as_storage_errors(f"cannot store {name!r} in {self}"):
            directory = open_directory(self._root, parents, create=self._sync)
        where = str(self)
        try:
            return LocalWriter(directory, name, where=where, replace=replace, sync=self._sync)
        except BaseException:
            close_directory(directory)
            raise

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See BaseStorage."""
        check_range(offset, length)
        with self._opened_file(name) as (file, size):
            # Asking for more than there is would set aside memory for it.
            end = min(offset + length, size)
            blocks = []
            while offset < end and (block := os.pread(file, end - offset, offset)):
                blocks.append(block)
                offset += len(block)
        return b"".join(blocks)

    def list_files(self, prefix: str = "") -> Iterator[StoredFile]:
        """See BaseStorage."""
        with as_storage_errors(f"cannot list {self}"):
            for name, directory in walk(self._root, prefix):
                if is_name(name) and (found := _stat(directory, name)):
                    yield _describe(name, found)

    def stat(self, name: str) -> StoredFile | None:
        """See BaseStorage."""
        *parents, _ = check_name(name).split("/")
        with (
            as_storage_errors(f"cannot look for {name!r} in {self}"),
            suppress(FileNotFoundError, NotADirectoryError),
            opened(self._root, parents) as directory,
        ):
            if found := _stat(directory, name):
                return _describe(name, found)
        return None

    def delete(self, name: str) -> None:
        """See BaseStorage."""
        *parents, last = check_name(name).split("/")
        with (
            as_storage_errors(f"cannot delete {name!r} in {self}"),
            suppress(FileNotFoundError, NotADirectoryError),
            opened(self._root, parents) as directory,
        ):
            with suppress(FileNotFoundError):
                os.unlink(last, dir_fd=directory)
            # Also if it was absent: an earlier attempt may have failed just here.
            sync_directory(directory, self._sync)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """See BaseStorage."""
        task = f"cannot lock {name!r} in {self}"
        with as_storage_errors(task):
            directory = open_directory(self._root, check_name(name).split("/"), create=self._sync)
        try:
            yield _lock(directory, task)
        finally:
            close_directory(directory)

    def clear_partials(self, older_than_seconds: float = 0) -> list[str]:
        """See BaseStorage."""
        latest = self._clock().timestamp() - older_than_seconds
        removed = []
        with as_storage_errors(f"cannot clear partial files in {self}"):
            for name, directory in walk(self._root, ""):
                partial = name.rpartition("/")[2]
                found = _stat(directory, name) if is_partial(partial) else None
                if found is None or found.st_mtime > latest:
                    continue
                abandoned = found.st_mtime < latest - _ABANDONED_SECONDS
                if remove_stale(directory, partial, abandoned=abandoned):
                    removed.append(name)
        return removed

    @contextmanager
    def _opened_file(self, name: str) -> Iterator[tuple[int, int]]:
        *parents, last = check_name(name).split("/")
        task = f"cannot read {name!r} in {self}"
        with as_storage_errors(task):
            try:
                with opened(self._root, parents) as directory:
                    file = os.open(last, _READ, dir_fd=directory)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise not_found(name, str(self)) from error
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode):
                    raise StorageError(f"{task}: it is not a regular file")
                yield file, found.st_size
            finally:
                os.close(file)


def _lock(directory: int, task: str) -> bool:
    """Lock ``directory``; return whether its file system knows locks."""
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(
            f"{task}: another run is at work there",
            hint="wait until it has ended; when its process ends, so does its lock",
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            with as_storage_errors(task):
                raise
        return False
    return True


def _stat(directory: int, name: str) -> os.stat_result | None:
    """Look at the last component of ``name``; None unless it is a regular file."""
    try:
        found = os.stat(name.rpartition("/")[2], dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _describe(name: str, found: os.stat_result) -> StoredFile:
    return StoredFile(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
