"""The tree below the target of a restore: ways into it, what is there, what went wrong."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

from backup.errors import RestoreError, UnsafePathError
from backup.model import Entry, path_text
from backup.restore.descriptors import (
    DirectoryChain,
    close_quietly,
    is_about_all,
    open_target,
    os_errors,
)
from backup.restore.file_jobs import TargetOrder
from backup.restore.metadata import MetadataSetter, Node
from backup.restore.paths import check_path, paths_above
from backup.restore.removal import Doomed, remove

READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINK_TO_BE, _LINK = "a symbolic link is to be there", "a symbolic link"


class ProblemsTold:
    """Lets a refusal that is about one path alone be one of the problems.

    ``error`` is what was refused within, if anything was.
    """

    __slots__ = ("_path", "_tree", "error")

    def __init__(self, tree: TargetTree, path: bytes) -> None:
        self._tree = tree
        self._path = path
        self.error: RestoreError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, RestoreError) or is_about_all(error):
            return False
        self.error = error
        self._tree.tell_refusal(self._path, error)
        return True


class TargetTree:
    """What is below ``target``, reached through descriptors of directories and one name in each.

    ``problems`` lists paths with what could not be done to them, which does not stop the restore.

    Args:
        target: The directory, created with mode 0700 if absent. A symbolic link is resolved once.
            Or an open descriptor of it, which this object closes.
        set_owner: Whether to set owners. None: as root only, else owners that differ are problems.
            Without the right owner there are no setuid bits, capabilities or ACLs either.

    Raises:
        RestoreError: The target is no directory, or cannot be made or opened.
    """

    def __init__(self, target: Path | int, *, set_owner: bool | None = None) -> None:
        self.problems: list[tuple[bytes, str]] = []
        self.prepared: set[bytes] = set()
        self._metadata = MetadataSetter(self.problems, set_owner=set_owner)
        self._symlinks: dict[bytes, tuple[Entry, bool]] = {}
        self._checked: bytes | None = None
        self._written: dict[bytes, tuple[int, int]] = {}
        self._target = b"" if isinstance(target, int) else os.path.realpath(os.fsencode(target))
        self._set_owner = set_owner
        self._root = target if isinstance(target, int) else open_target(target)
        self._chain = DirectoryChain(self._root, refused=self._symlinks)
        # Names of a hard-linked file may lie far apart, so that one chain would go to and fro.
        self._first_chain = DirectoryChain(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors, finished or not."""
        self._chain.close()
        self._first_chain.close()
        if self._root >= 0:
            close_quietly(self._root)
        self._root = -1

    def order(self) -> TargetOrder:
        """Return what another process has to know to write below the same target."""
        status = os.fstat(self._root)
        identity = (status.st_dev, status.st_ino)
        return TargetOrder(self._target, identity, os.getpid(), self._root, self._set_owner)

    def check_place(self, path: bytes) -> None:
        """Refuse ``path`` where it is, or lies below, what is to become a symbolic link.

        Raises:
            UnsafePathError: It does.
        """
        if path in self._symlinks:
            raise UnsafePathError(f"cannot restore {path_text(path)!r}: {_LINK_TO_BE}")
        directory = path.rpartition(b"/")[0]
        if self._symlinks and directory != self._checked:
            for one in paths_above(directory):
                if one in self._symlinks:
                    raise UnsafePathError(f"cannot restore below {path_text(one)!r}: {_LINK}")
            self._checked = directory

    def open_directory(self, path: bytes) -> int:
        """Return a descriptor of the directory ``path``, made for this user alone if it is absent.

        It is the caller's to close; ``prepared`` has the paths of those that were made.

        Raises:
            RestoreError: Something else has that name, or the system refuses.
        """
        parent, name = self._place(path)
        with os_errors(path):
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                pass
            else:
                self.prepared.add(path)
            return os.dup(self._chain.open(path, create=False))

    def open_file(self, path: bytes, identity: tuple[int, int]) -> int | None:
        """Return a descriptor for reading the file ``identity`` at ``path``.

        It is the caller's to close, and ``None`` where that is gone, or cannot be read.
        """
        parent, name = self._place(path)
        try:
            descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) == identity and stat.S_ISREG(status.st_mode):
            return descriptor
        close_quietly(descriptor)
        return None

    def mend(self, entry: Entry, identity: tuple[int, int]) -> None:
        """Set the metadata of something that is there and is no directory.

        Raises:
            RestoreError: It is not the file ``identity`` any more, or has other names, or the
                system refuses.
        """
        parent, name = self._place(entry.path)
        with os_errors(entry.path), Node(parent, name, entry.path) as node:
            node.check(identity=identity)
            node.set(self._metadata, entry)

    def keep(self, entry: Entry, identity: tuple[int, int]) -> None:
        """Take the file that is there for one of this restore: other names may be linked to it."""
        self._written[entry.path] = identity

    def is_file(self, entry: Entry, identity: tuple[int, int]) -> bool:
        """Return whether ``entry`` was written or kept as the file ``identity``."""
        return self._written.get(entry.path) == identity

    def remove(self, path: bytes, doomed: Doomed) -> None:
        """Delete ``path`` with all that is below it.

        Raises:
            RestoreError: It is not what was planned to be deleted, or the system refuses.
        """
        self._place(path)
        remove(self._chain, path, doomed)

    def problems_told(self, path: bytes) -> ProblemsTold:
        """Let a refusal that is about ``path`` alone be one of the problems.

        Raises:
            RestoreError: What refused it would refuse all others too.
        """
        return ProblemsTold(self, path)

    def tell_refusal(self, path: bytes, error: RestoreError) -> None:
        """Let ``error``, which is about ``path`` alone, be one of the problems."""
        reason = error.message.removeprefix(f"cannot restore {path_text(path)!r}: ")
        reason = reason.replace(f"cannot delete {path_text(path)!r}", "not deleted")
        self.problems.append((path, reason))

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """Return the descriptor of the directory of ``path``, and its name in there."""
        check_path(path)
        if not path or path in self._symlinks:
            reason = _LINK_TO_BE if path else "it is the target itself"
            raise UnsafePathError(f"cannot restore {path_text(path)!r}: {reason}")
        directory, _, name = path.rpartition(b"/")
        return self._chain.open(directory), name
