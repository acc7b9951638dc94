"""Deleting what a snapshot does not have: looked at first, and only what was looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from backup.errors import RestoreError
from backup.model import path_text
from backup.restore.descriptors import DirectoryChain, os_errors
from backup.snapshot.names import SUFFIX, parse_name

_MOUNTED = "another file system is mounted there"


class Doomed(NamedTuple):
    """Something that is to be deleted: itself, and how much it is with all that is below it.

    ``state`` tells it from what may be there later: the number of an inode is soon used again, and
    the time of its last change is another one when one of its other names is gone.
    """

    state: tuple[int, int, int, int]
    is_directory: bool
    names: int
    size: int


class Spared(NamedTuple):
    """Something that is not deleted though the snapshot does not have it."""

    path: bytes
    reason: str


def survey(chain: DirectoryChain, path: bytes, spared: Callable[[bytes], str]) -> Doomed | Spared:
    """Return what deleting ``path`` would take away, or what stands against it.

    Args:
        chain: Ways below the target.
        path: Something below it, which is not followed where it is a symbolic link.
        spared: Tells why a path is not to be deleted, ``""`` where it may be.

    Raises:
        RestoreError: It cannot be looked at.
    """
    with os_errors(path, "delete"):
        return _survey(chain, path, spared)


def _survey(chain: DirectoryChain, path: bytes, spared: Callable[[bytes], str]) -> Doomed | Spared:
    directory, _, name = path.rpartition(b"/")
    parent = chain.open(directory, create=False)
    top = os.stat(name, dir_fd=parent, follow_symlinks=False)
    mount = mount_of(parent)
    names = size = 0
    for below, status, own_mount in _everything(chain, path, top):
        reason = spared(below) or _against(below, status)
        if own_mount not in {None, mount}:
            reason = _MOUNTED
        if reason:
            return Spared(below, reason)
        names += 1
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return Doomed(_state(top), stat.S_ISDIR(top.st_mode), names, size)


def _against(path: bytes, status: os.stat_result) -> str:
    if stat.S_ISSOCK(status.st_mode):
        return "it is a socket, which no snapshot holds"
    return "it belongs to a snapshot" if _is_of_snapshot(path.rpartition(b"/")[2]) else ""


def _is_of_snapshot(name: bytes) -> bool:
    """Return whether a file is named as a snapshot is, or what lies beside one."""
    stem, found, _ = os.fsdecode(name).partition(SUFFIX)
    return bool(found) and parse_name(f"host/{stem.rsplit('-', 3)[0]}/{stem}{SUFFIX}") is not None


def _everything(
    chain: DirectoryChain, top: bytes, status: os.stat_result
) -> Iterator[tuple[bytes, os.stat_result, bytes | None]]:
    """Yield ``top`` and what is below it, directories first, these with their mounts."""
    waiting = [(top, status)]
    while waiting:
        path, status = waiting.pop()
        if not stat.S_ISDIR(status.st_mode):
            yield path, status, None
            continue
        yield path, status, mount_of(chain.open(path, create=False))
        directory = chain.open(path, create=False)
        with os.scandir(directory) as names:
            waiting.extend(
                (path + b"/" + os.fsencode(one.name), one.stat(follow_symlinks=False))
                for one in names
            )


def remove(chain: DirectoryChain, path: bytes, doomed: Doomed) -> None:
    """Delete ``path``, with all that is below it, if it still is what was looked at.

    Raises:
        RestoreError: It is something else by now, or the system refuses.
    """
    directory, _, name = path.rpartition(b"/")
    with os_errors(path, "delete"):
        parent = chain.open(directory, create=False)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if _state(status) != doomed.state:
            raise RestoreError(f"cannot delete {path_text(path)!r}: something else is there by now")
        if stat.S_ISDIR(status.st_mode):
            _remove_tree(chain, path, mount_of(parent))
        else:
            os.unlink(name, dir_fd=parent)


def _state(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, stat.S_IFMT(status.st_mode), status.st_mtime_ns


def mount_of(directory: int) -> bytes:
    """Return what names the mount that an open directory is in.

    The device does not: a directory may be mounted a second time within its own file system.
    """
    with open(f"/proc/self/fdinfo/{directory}", "rb") as lines:  # noqa: PTH123 - not a path
        return next(line for line in lines if line.startswith(b"mnt_id:"))


def _remove_tree(chain: DirectoryChain, top: bytes, mount: bytes) -> None:
    """Delete the directory ``top``; nothing in another mount, no link followed."""
    order: list[bytes] = []
    waiting = [top]
    while waiting:
        path = waiting.pop()
        order.append(path)
        directory = chain.open(path, create=False)
        if mount_of(directory) != mount:
            raise RestoreError(f"cannot delete {path_text(path)!r}: {_MOUNTED}")
        with os.scandir(directory) as names:
            for one in names:
                if one.is_dir(follow_symlinks=False):
                    waiting.append(path + b"/" + os.fsencode(one.name))
                else:
                    os.unlink(one.name, dir_fd=directory)
    for path in reversed(order):
        above, _, name = path.rpartition(b"/")
        parent = chain.open(above, create=False)
        os.rmdir(name, dir_fd=parent)
