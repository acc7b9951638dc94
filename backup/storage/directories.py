"""Directories of a local storage: walked without following links, created for good."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from backup.owners import give_to_owner
from backup.storage.base import is_name

Sync = Callable[[int], None]
"""Makes what was written through a file descriptor durable, as ``os.fsync`` does."""

_MODE = 0o700
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# File systems put it at their top, readable by root only; it never contains a stored file.
_LOST_AND_FOUND = "lost+found/"


@contextmanager
def opened(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Hold the directory ``parts`` below ``root`` open."""
    directory = open_directory(root, parts)
    try:
        yield directory
    finally:
        close_directory(directory)


def open_directory(root: Path, parts: Sequence[str], create: Sync | None = None) -> int:
    """Open the directory ``parts`` below ``root``, one component after the other.

    Working below the descriptor instead of with paths means that nobody can slip in a symbolic
    link on the way. ``root`` itself may be one: it is the user's own choice.

    Args:
        root: Where the storage is.
        parts: The names of the directories below it, outermost first.
        create: If given, missing directories are created and made durable with it.
    """
    if create is not None:
        _create_root(root, create)
    directory = os.open(root, _FLAGS)
    for part in parts:
        try:
            if create is not None:
                _create_below(directory, part, create)
            child = os.open(part, _FLAGS | os.O_NOFOLLOW, dir_fd=directory)
        finally:
            close_directory(directory)
        directory = child
    return directory


def close_directory(directory: int) -> None:
    """Close a directory's descriptor; nothing was written through it that an error could be of."""
    with suppress(OSError):
        os.close(directory)


@contextmanager
def _opened_below(parent: int, name: str) -> Iterator[int]:
    directory = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=parent)
    try:
        yield directory
    finally:
        close_directory(directory)


def sync_directory(directory: int, sync: Sync) -> None:
    """Make the names in ``directory`` durable."""
    try:
        sync(directory)
    except OSError as error:
        # Some network file systems have no such call for directories: nothing more can be done.
        if error.errno != errno.EINVAL:
            raise


def walk(root: Path, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield every name below ``root`` that begins with ``prefix``, with its directory, open.

    The names are sorted; last components can be anything, and of any type but a directory. What
    disappears meanwhile may be left out.
    """
    with suppress(FileNotFoundError), opened(root, ()) as directory:
        yield from _walk_below(directory, "", prefix)


def _walk_below(directory: int, path: str, prefix: str) -> Iterator[tuple[str, int]]:
    for key in _sorted_keys(directory):
        name = path + key
        if not key.endswith("/"):
            if name.startswith(prefix):
                yield name, directory
        elif _leads_to(name, prefix):
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                _opened_below(directory, key) as child,
            ):
                yield from _walk_below(child, name, prefix)


def _sorted_keys(directory: int) -> list[str]:
    # With its slash a directory sorts where the names below it belong: between a-b and a0.
    with os.scandir(directory) as entries:
        return sorted(entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries)


def _leads_to(path: str, prefix: str) -> bool:
    if path == _LOST_AND_FOUND or not is_name(path[:-1]):
        return False
    return path.startswith(prefix) or prefix.startswith(path)


def _create_root(root: Path, sync: Sync) -> None:
    missing = [path for path in (root, *root.parents) if not path.exists()]
    for path in reversed(missing):
        with opened(path.parent, ()) as parent:
            _create_below(parent, path.name, sync)


def _create_below(parent: int, name: str, sync: Sync) -> None:
    try:
        os.mkdir(name, _MODE, dir_fd=parent)
    except FileExistsError:
        return
    try:
        with _opened_below(parent, name) as made:
            # Else a single run as root would keep the owner of a store from listing it.
            give_to_owner(made, parent)
        sync_directory(parent, sync)
    except BaseException:
        # Whoever finds the directory takes it for durable.
        with suppress(OSError):
            os.rmdir(name, dir_fd=parent)
        raise
