"""Access to the tree below a target by descriptors, never through a symbolic link."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from backup.errors import RestoreError, UnsafePathError
from backup.model import path_text

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_HELD = 2  # both of the last steps; one of the 2 before, one of the 4 before those …
_CLOSED = -1
_RENAME_NOREPLACE, _RENAME_EXCHANGE = 1, 2
_NO_SUCH_RENAME = (errno.ENOSYS, errno.EINVAL)
_HINTS = {
    errno.EACCES: "restore as root, or to a directory that this user may write to",
    errno.EDQUOT: "raise the quota, or restore to another file system",
    errno.EBUSY: "a file system is mounted there: unmount it, or restore what is below it",
    errno.EEXIST: "nothing is overwritten unless --overwrite says so",
    errno.EFBIG: "the target's file system, or a limit of this process, allows smaller files only",
    errno.EMFILE: "allow this process more open files",
    errno.ENAMETOOLONG: "the target's file system allows shorter names only",
    errno.ENOSPC: "free some space, or restore to another file system",
    errno.EPERM: "restore as root, or to a file system that allows this",
    errno.EROFS: "the target is mounted read-only: restore to another file system",
}
_ABOUT_ALL = frozenset({
    errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENOMEM, errno.ENOSPC,
    errno.EROFS, errno.ESTALE,
})  # fmt: skip

# Not every libc has them; what takes their place where it lacks is slower and just as strict.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


def restore_error(path: bytes, error: OSError, verb: str = "restore") -> RestoreError:
    """Return what to raise when the system refused ``path`` with ``error``."""
    reason = "it exists already" if error.errno == errno.EEXIST else error.strerror
    hint = _HINTS.get(error.errno or 0)
    return RestoreError(f"cannot {verb} {path_text(path)!r}: {reason}", hint=hint)


def is_about_all(error: RestoreError) -> bool:
    """Return whether what refused one entry would refuse every other one too."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _ABOUT_ALL


class _OsErrors:
    """See ``os_errors``; a class costs a third of what a generator does."""

    __slots__ = ("_path", "_verb")

    def __init__(self, path: bytes, verb: str) -> None:
        self._path = path
        self._verb = verb

    def __enter__(self) -> None:
        return

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError):
            raise restore_error(self._path, error, self._verb) from error


def os_errors(path: bytes, verb: str = "restore") -> _OsErrors:
    """Turn errors of the system into a RestoreError that names ``path``."""
    return _OsErrors(path, verb)


def open_target(target: Path) -> int:
    """Open the directory ``target``, made with mode 0700 if it is absent, parents included.

    Symbolic links in ``target`` are followed here, by its user's wish, and never again.

    Raises:
        RestoreError: It is no directory, or cannot be made or opened.
    """
    real = Path(os.path.realpath(target))
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        real.mkdir(0o700, exist_ok=True)
        return os.open(real, DIRECTORY_FLAGS)
    except OSError as error:
        hint = None if error.errno == errno.EEXIST else _HINTS.get(error.errno or 0)
        message = f"cannot restore to {str(target)!r}: {error.strerror}"
        raise RestoreError(message, hint=hint) from error


def publish(parent: int, partial: bytes, name: bytes) -> None:
    """Rename ``partial`` to ``name`` in the directory ``parent``, replacing nothing.

    Raises:
        OSError: FileExistsError where there is a ``name`` of any type.
    """
    if _renameat2 is not None:
        if _renameat2(parent, partial, parent, name, _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NO_SUCH_RENAME:
            raise OSError(number, os.strerror(number))
    os.link(partial, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    os.unlink(partial, dir_fd=parent)


def close_quietly(descriptor: int) -> None:
    """Close a descriptor where an error would tell nothing new."""
    with suppress(OSError):
        os.close(descriptor)


def exchange(parent: int, one: bytes, other: bytes) -> bool:
    """Exchange two names in the directory ``parent``; return false where that is not possible.

    Raises:
        OSError: The system refuses.
    """
    if _renameat2 is None:
        return False
    if _renameat2(parent, one, parent, other, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number not in _NO_SUCH_RENAME:
        raise OSError(number, os.strerror(number))
    return False


def identity_of(directory: int, name: bytes) -> tuple[int, int]:
    """Return device and inode of ``name``, which is not followed."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_dev, status.st_ino


def sync_file_system(directory: int) -> None:
    """Bring all that has been written to the file system of ``directory`` to the disk.

    Raises:
        OSError: Something could not be written.
    """
    if _syncfs is None:
        os.sync()
    elif _syncfs(directory):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_directory(directory: int) -> None:
    """Bring the names in ``directory`` to the disk."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise


class DirectoryChain:
    """The way from the target down to one directory, each step an open descriptor.

    The next directory asked for mostly shares most of the way, so most calls open nothing or one
    directory. Of a deep tree the last few steps stay open, and above them ever fewer; what lies
    between is opened again from the next open one above when it is needed, never through ``..``,
    which somebody else may move.

    Args:
        root: The target's descriptor, which stays the caller's.
        refused: Paths that are to become symbolic links; nothing goes below them.
    """

    def __init__(self, root: int, *, refused: Container[bytes] = ()) -> None:
        self._root = root
        self._refused = refused
        self._path: bytes | None = b""
        self._names: list[bytes] = []
        self._descriptors: list[int] = []  # one for each name

    def open(self, path: bytes, *, create: bool = True) -> int:
        """Return the descriptor of the directory ``path``, valid until the next call.

        Args:
            path: A checked path below the root; the empty one is the root itself.
            create: Whether to make directories that are absent, with ordinary modes.

        Raises:
            UnsafePathError: A step is a symbolic link, or is to become one.
            RestoreError: A step is no directory, or cannot be opened or made.
        """
        if path != self._path:
            self._path = None  # whatever happens on the way
            self._move(path.split(b"/") if path else [], create=create)
            self._path = path
        return self._last()

    def close(self) -> None:
        """Close every descriptor but the root's."""
        self._path = None
        self._go_up(0)

    def _last(self) -> int:
        return self._descriptors[-1] if self._descriptors else self._root

    def _move(self, names: list[bytes], *, create: bool) -> None:
        shared = 0
        for held, wanted in zip(self._names, names, strict=False):
            if held != wanted:
                break
            shared += 1
        self._go_up(shared)
        while self._last() == _CLOSED:
            self._go_up(len(self._descriptors) - 1)
        for name in names[len(self._names) :]:
            self._enter(name, create=create)

    def _go_up(self, depth: int) -> None:
        while len(self._descriptors) > depth:
            self._names.pop()
            descriptor = self._descriptors.pop()
            if descriptor != _CLOSED:
                close_quietly(descriptor)

    def _enter(self, name: bytes, *, create: bool) -> None:
        path = b"/".join((*self._names, name))
        if path in self._refused:
            raise UnsafePathError(f"cannot restore below {path_text(path)!r}: a symbolic link")
        with os_errors(path):
            descriptor = _open_directory(self._last(), name, path, create=create)
        self._names.append(name)
        self._descriptors.append(descriptor)
        self._thin_out()

    def _thin_out(self) -> None:
        """Close what the last step leaves too densely open: the further up, the wider apart."""
        distance, apart = _HELD, 2
        while distance < len(self._descriptors):
            place = len(self._descriptors) - distance - 1
            if place % apart and self._descriptors[place] != _CLOSED:
                close_quietly(self._descriptors[place])
                self._descriptors[place] = _CLOSED
            distance, apart = 2 * distance, 2 * apart


def _open_directory(parent: int, name: bytes, path: bytes, *, create: bool) -> int:
    try:
        return os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise _not_a_directory(parent, name, path) from error
    with suppress(FileExistsError):  # another process of this restore may have made it
        os.mkdir(name, 0o755, dir_fd=parent)
    return _open_directory(parent, name, path, create=False)


def _not_a_directory(parent: int, name: bytes, path: bytes) -> RestoreError:
    text = f"cannot restore to {path_text(path)!r}: it is"
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return UnsafePathError(f"{text} a symbolic link", hint="restore to an empty directory")
    return RestoreError(f"{text} not a directory", hint="restore to an empty directory")
