"""Where an archive goes: a file that somebody names, or a store."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from backup.errors import ConfigError
from backup.plain.formats import SUFFIXES
from backup.storage.base import BaseStorage, StorageWriter
from backup.storage.directories import close_directory
from backup.storage.local_writer import LocalWriter, is_partial, remove_stale
from backup.storage.os_errors import as_storage_errors

_ARCHIVE_PARTIAL = re.compile(
    r"(" + "|".join(map(re.escape, SUFFIXES)) + r")(\.enc)?\.[0-9a-f]{8}\.partial$", re.IGNORECASE
)


@dataclass(frozen=True)
class FilePlace:
    """The file ``name`` in a directory that exists.

    ``replace`` says whether a file of that name may go, which it does once the new one is proven.
    """

    directory: Path
    name: str
    replace: bool = False

    def __str__(self) -> str:
        return str(self.directory / self.name)

    def is_taken(self) -> bool:
        """Return whether there is something of that name.

        Raises:
            ConfigError: It is no file that could be replaced.
        """
        status = self._status()
        if status is not None and not S_ISREG(status.st_mode):
            raise ConfigError(f"{self} is no regular file", hint="name another file")
        return status is not None

    def create(self) -> LocalWriter:
        """Begin to write it.

        Raises:
            StorageError: That is not possible, or the name is taken.
        """
        with as_storage_errors(f"cannot write {self}"):
            directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        where = str(self.directory)
        try:
            _clear_away(directory)
            return LocalWriter(
                directory, self.name, where=where, replace=self.replace, sync=os.fsync
            )
        except BaseException:
            close_directory(directory)
            raise

    def own_files(self) -> list[tuple[int, int]]:
        """Return (device, inode) of what has the name now."""
        status = self._status()
        return [] if status is None else [(status.st_dev, status.st_ino)]

    def _status(self) -> os.stat_result | None:
        with suppress(OSError):
            return os.lstat(self.directory / self.name)
        return None


def _clear_away(directory: int) -> None:
    """Remove what killed runs have left of archives there, never what a live one is writing."""
    with suppress(OSError):
        for name in os.listdir(directory):
            if is_partial(name) and _ARCHIVE_PARTIAL.search(name):
                with suppress(OSError):
                    remove_stale(directory, name)


@dataclass(frozen=True)
class StorePlace:
    """A file in the root of a store; see ``FilePlace``."""

    storage: BaseStorage
    name: str
    replace: bool = False

    def __str__(self) -> str:
        root = self.storage.local_root()
        return f"{self.storage.url}/{self.name}" if root is None else str(root / self.name)

    def is_taken(self) -> bool:
        """Return whether the store has a file of that name."""
        return self.storage.stat(self.name) is not None

    def create(self) -> StorageWriter:
        """Begin to write it.

        Raises:
            StorageError: That is not possible, or the name is taken.
        """
        return self.storage.create(self.name, replace=self.replace)

    def own_files(self) -> list[tuple[int, int]]:
        """Return nothing: stores are left out as a whole."""
        return []


Place = FilePlace | StorePlace
