"""Small files for their owner alone: keys, passphrases, what a host remembers.

What systemd hands to a service belongs to root, who lets the service's user read it by an access
list: its mode then shows bits of the group. That is accepted where systemd puts it, and only there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

from backup.environment import credentials_dir
from backup.errors import SecretKeyError, StorageError
from backup.owners import as_owner
from backup.storage.directories import close_directory, open_directory
from backup.storage.local_writer import LocalWriter, remove_stale
from backup.storage.os_errors import as_storage_errors

LONGEST = 64 * 1024
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HANDED_OVER = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
_CHANGEABLE = stat.S_IWGRP | stat.S_IWOTH


def read_private(path: Path, *, longest: int = LONGEST, state: Path | None = None) -> bytes:
    """Return what is in ``path``; a symbolic link is followed, a pipe is read as it is.

    Args:
        path: The file.
        longest: How many bytes it may have.
        state: The state directory that it is part of, where it is: it may then also belong to that
            directory's owner, as whom root reads it; and it has to be a regular file.

    Raises:
        SecretKeyError: Others may read the file, or it belongs to another user, who could change
            it, or it is longer than ``longest`` bytes.
        OSError: It cannot be read.
    """
    if state is None:
        with path.open("rb") as file:
            refused = _HANDED_OVER if _is_handed_over(path) else _FOR_OTHERS
            _refuse_if_open(path, os.fstat(file.fileno()), {0, os.geteuid()}, refused)
            content = file.read(longest + 1)
    else:
        content = _read_state(path, state, longest + 1)
    if len(content) > longest:
        raise SecretKeyError(f"{path} is not a key file: it is longer than {longest} bytes")
    return content


def _read_state(path: Path, state: Path, most: int) -> bytes:
    with as_owner(state, _below(state, path)):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                raise SecretKeyError(f"{path} is not a regular file")
            _refuse_if_open(path, status, {0, os.geteuid(), state.stat().st_uid})
            return file.read(most)


def _below(state: Path, path: Path) -> str:
    return os.fspath(path.relative_to(state))


def _is_handed_over(path: Path) -> bool:
    """Tell whether ``path`` lies where systemd puts what it hands to this service.

    That directory is named by a variable: it counts where only root, or this user, can change it.
    """
    directory = credentials_dir()
    if directory is None or not directory.is_absolute() or path.parent != directory:
        return False
    try:
        status = directory.lstat()
    except OSError:
        return False
    is_theirs = status.st_uid not in {0, os.geteuid()} or status.st_mode & _CHANGEABLE
    return stat.S_ISDIR(status.st_mode) and not is_theirs


def _refuse_if_open(
    path: Path, status: os.stat_result, owners: Collection[int], refused: int = _FOR_OTHERS
) -> None:
    if not stat.S_ISREG(status.st_mode):
        return
    if status.st_mode & refused:
        raise SecretKeyError(
            f"the secret in {path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
    if status.st_uid not in owners:
        raise SecretKeyError(
            f"the secret in {path} belongs to another user (number {status.st_uid})",
            hint=f"chown {os.geteuid()} {path}, if what is in it is what you expect",
        )


def write_private(
    path: Path, content: bytes, *, replace: bool = False, state: Path | None = None
) -> None:
    """Write a file whole, durable and private, or not at all.

    Args:
        path: Where to; missing directories are made.
        content: All that is to be in it.
        replace: Whether it may take the place of one that is there.
        state: The state directory that it is to be part of, where it is: root writes as its owner.

    Raises:
        FileExistsError: There is one, and it may not be replaced.
        StorageError: It cannot be written, or would not be private there; what was there before is
            as it was.
    """
    with nullcontext() if state is None else as_owner(state, _below(state, path)):
        _write(path, content, replace=replace, give=state is not None)


def _write(path: Path, content: bytes, *, replace: bool, give: bool) -> None:
    with as_storage_errors(f"cannot make the directory of {path}"):
        # Snapshots will need what is written here: it must last as long as they do.
        directory = open_directory(path.parent, (), create=os.fsync)
    try:
        _clear_partials(directory, path.name)
        writer = LocalWriter(
            directory,
            path.name,
            where=str(path.parent),
            replace=replace,
            sync=os.fsync,
            give=give,
        )
    except BaseException as error:
        close_directory(directory)
        _pass_on_taken(error)
        raise
    try:
        with writer:
            _refuse_shared(writer.mode(), path)
            writer.write(content)
            writer.commit()
    except StorageError as error:
        _pass_on_taken(error)
        raise


def _pass_on_taken(error: BaseException) -> None:
    if isinstance(error.__cause__, FileExistsError):
        raise error.__cause__


def _refuse_shared(mode: int, path: Path) -> None:
    """Refuse a file system without modes, such as FAT, before anything secret is on it."""
    if mode & _FOR_OTHERS:
        raise StorageError(
            f"cannot write {path}: its file system keeps no modes, so everybody could read it"
            f" (mode {mode:04o})",
            hint="mount it with the option umask=077, or write it elsewhere and copy it there",
        )


def _clear_partials(directory: int, name: str) -> None:
    """Remove what killed processes have left of such a file."""
    with as_storage_errors(f"cannot clear away what is left of {name!r}"):
        for left in os.listdir(directory):
            if re.fullmatch(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.partial", left):
                remove_stale(directory, left)
