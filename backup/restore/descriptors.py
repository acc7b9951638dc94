"""Access to the tree below a target by descriptors, never through a symbolic link."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from backup.errors import DigestError, RestoreError, UnsafePathError
from backup.model import Entry, path_text

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID
_NO_ID = 2**32 - 1  # to chown it means: leave as it is
_HELD = 16  # enough for ordinary trees, and far below any limit on open files
_CLOSED = -1
_RENAME_NOREPLACE = 1
_NO_SUCH_RENAME = (errno.ENOSYS, errno.EINVAL)
_HINTS = {
    errno.EACCES: "restore as root, or to a directory that this user may write to",
    errno.EDQUOT: "raise the quota, or restore to another file system",
    errno.EEXIST: "nothing is ever overwritten: restore to an empty directory",
    errno.EFBIG: "the target's file system, or a limit of this process, allows smaller files only",
    errno.EMFILE: "allow this process more open files",
    errno.ENAMETOOLONG: "the target's file system allows shorter names only",
    errno.ENOSPC: "free some space, or restore to another file system",
    errno.EPERM: "restore as root, or to a file system that allows this",
    errno.EROFS: "the target is mounted read-only: restore to another file system",
}

# Not every libc has it; what takes its place where it lacks is slower and just as strict.
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def restore_error(path: bytes, error: OSError) -> RestoreError:
    """Return what to raise when the system refused ``path`` with ``error``."""
    reason = "it exists already" if error.errno == errno.EEXIST else error.strerror
    hint = _HINTS.get(error.errno or 0)
    return RestoreError(f"cannot restore {path_text(path)!r}: {reason}", hint=hint)


@contextmanager
def os_errors(path: bytes) -> Iterator[None]:
    """Turn errors of the system into a RestoreError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise restore_error(path, error) from error


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


def sync_directory(directory: int) -> None:
    """Bring the names in ``directory`` to the disk."""
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing
            raise


def write_pieces(descriptor: int, entry: Entry, pieces: Iterable[bytes | memoryview]) -> None:
    """Write the content of ``entry``; what ``pieces`` raises goes through unchanged.

    Raises:
        DigestError: There are more or fewer bytes than the entry accounts for.
        RestoreError: The system refuses.
    """
    written = 0
    for piece in pieces:
        written += len(piece)
        if written > entry.size and not entry.error:
            break
        with os_errors(entry.path):
            while piece := piece[os.write(descriptor, piece) :]:
                pass
    if written != entry.size and not entry.error:
        amount = f"content {'above' if written > entry.size else 'below'} {entry.size} bytes"
        raise DigestError(f"cannot restore {path_text(entry.path)!r}: {amount}")


class DirectoryChain:
    """The way from the target down to one directory, each step an open descriptor.

    The next directory asked for mostly shares most of the way, so most calls open nothing or one
    directory. Only the last few steps stay open, however deep the tree; what lies above is opened
    again from the root when it is needed, never through ``..``, which somebody else may move.

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
        if self._last() == _CLOSED:
            self._go_up(0)
        for name in names[len(self._names) :]:
            self._enter(name, create=create)

    def _go_up(self, depth: int) -> None:
        while len(self._descriptors) > depth:
            self._names.pop()
            descriptor = self._descriptors.pop()
            if descriptor != _CLOSED:
                os.close(descriptor)

    def _enter(self, name: bytes, *, create: bool) -> None:
        path = b"/".join((*self._names, name))
        if path in self._refused:
            raise UnsafePathError(f"cannot restore below {path_text(path)!r}: a symbolic link")
        with os_errors(path):
            descriptor = _open_directory(self._last(), name, path, create=create)
        self._names.append(name)
        self._descriptors.append(descriptor)
        if len(self._descriptors) > _HELD and self._descriptors[-_HELD - 1] != _CLOSED:
            os.close(self._descriptors[-_HELD - 1])
            self._descriptors[-_HELD - 1] = _CLOSED


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
    os.mkdir(name, 0o755, dir_fd=parent)
    return _open_directory(parent, name, path, create=False)


def _not_a_directory(parent: int, name: bytes, path: bytes) -> RestoreError:
    text = f"cannot restore to {path_text(path)!r}: it is"
    if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        return UnsafePathError(f"{text} a symbolic link", hint="restore to an empty directory")
    return RestoreError(f"{text} not a directory", hint="restore to an empty directory")


class MetadataSetter:
    """Gives nodes the owner, attributes, mode and times of their entries.

    Args:
        problems: Where to add the path and the reason of what cannot be set.
        set_owner: See TreeWriter.
    """

    def __init__(self, problems: list[tuple[bytes, str]], *, set_owner: bool | None) -> None:
        self._problems = problems
        self._any_owner = set_owner is False
        self._set_owner = os.geteuid() == 0 if set_owner is None else set_owner

    def set(self, node: int | str, entry: Entry, status: os.stat_result) -> None:
        """Set all that ``entry`` says on ``node``, in the one order in which each of it stays.

        Args:
            node: A descriptor, or the name in ``/proc`` of one that only marks a place.
            entry: What to set.
            status: What ``node`` is now.
        """
        owned = self._own(node, entry, status)  # takes setuid bits and capabilities away
        for name, value in entry.xattrs:
            if owned or name.startswith(b"user."):
                self._try(entry, f"attribute {name!r}", os.setxattr, node, name, value)
            else:
                self._note(entry, f"attribute {name!r} not set: it is for another owner")
        if not stat.S_ISLNK(status.st_mode):
            self._try(entry, "mode", os.chmod, node, self._mode(entry, owned=owned))
        times = (entry.mtime_ns, entry.mtime_ns)
        self._try(entry, "times", lambda: os.utime(node, ns=times))

    def _mode(self, entry: Entry, *, owned: bool) -> int:
        mode = stat.S_IMODE(entry.mode)
        if owned or not mode & _SET_ID_BITS:
            return mode
        self._note(entry, "setuid and setgid not set: they are for another owner")
        return mode & ~_SET_ID_BITS

    def _own(self, node: int | str, entry: Entry, status: os.stat_result) -> bool:
        """Return whether the node has its owner, which is set if that is wanted and needed."""
        if self._any_owner:
            return False
        if (status.st_uid, status.st_gid) == (entry.uid, entry.gid):
            return True
        owner = f"owner {entry.uid}:{entry.gid}"
        if not self._set_owner:
            self._note(entry, f"{owner} not set: only root may")
            return False
        if not (0 <= entry.uid < _NO_ID and 0 <= entry.gid < _NO_ID):
            self._note(entry, f"{owner} not set: out of range")
            return False
        return self._try(entry, owner, os.chown, node, entry.uid, entry.gid)

    def _try(self, entry: Entry, what: str, call: Callable[..., None], *arguments: object) -> bool:
        try:
            call(*arguments)
        except (OSError, OverflowError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "out of range"
            self._note(entry, f"{what} not set: {reason}")
            return False
        return True

    def _note(self, entry: Entry, problem: str) -> None:
        self._problems.append((entry.path, problem))
