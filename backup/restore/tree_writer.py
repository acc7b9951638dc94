"""Writing entries of a snapshot below a target directory, where nothing can lead out of it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from backup.errors import RestoreError, UnsafePathError
from backup.model import Entry, EntryType, path_key, path_text
from backup.restore.descriptors import (
    DirectoryChain,
    MetadataSetter,
    open_target,
    os_errors,
    publish,
    sync_directory,
    write_pieces,
)

_NAME_BYTES = 255
_MAJORS, _MINORS = 2**12, 2**20  # what Linux has room for
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = {
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}


def check_path(path: bytes) -> None:
    """Check that ``path`` names something below the target, or is empty: the target itself.

    Raises:
        UnsafePathError: It is absolute, or has a component that is empty, ``.`` or ``..``, holds
            NUL, or is longer than 255 bytes.
    """
    if not path:
        return
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or b"\0" in name or len(name) > _NAME_BYTES:
            raise UnsafePathError(f"cannot restore {path_text(path)!r}: {_flaw(name)}")


def _flaw(name: bytes) -> str:
    if len(name) > _NAME_BYTES:
        return f"a component is longer than {_NAME_BYTES} bytes"
    return f"{path_text(name)[1:]!r} is not the name of a file"


class TreeWriter:
    """Writes entries below ``target``; whatever they say, nothing outside of it is reached.

    Every access goes through the descriptor of a directory and one name in it, and follows no
    symbolic link; links of the snapshot are made last, in ``finish``. A file has its final name
    only once it is complete, and nothing that exists is ever replaced; directories are merged.
    Entries may come in any order; that of ``path_key`` is the fast one. Left without ``finish``,
    the tree lacks its symbolic links, and its directories stay private to this user.

    ``problems`` lists paths with what could not be set on them, which does not stop the restore.

    Args:
        target: The directory, created with mode 0700 if absent. A symbolic link is resolved once.
        set_owner: Whether to set owners. None: as root only, else owners that differ are problems.
            Without the right owner there are no setuid bits, capabilities or ACLs either.

    Raises:
        RestoreError: The target is no directory, or cannot be made or opened.
    """

    def __init__(self, target: Path, *, set_owner: bool | None = None) -> None:
        self.problems: list[tuple[bytes, str]] = []
        self._metadata = MetadataSetter(self.problems, set_owner=set_owner)
        self._directories: list[Entry] = []
        self._symlinks: dict[bytes, Entry] = {}
        self._written: dict[bytes, tuple[int, int]] = {}
        self._root = open_target(target)
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
            os.close(self._root)
        self._root = -1

    def make_directory(self, entry: Entry) -> None:
        """Make a directory, or take the one that is there; ``finish`` sets its metadata.

        Raises:
            RestoreError: Something else has that name, or the system refuses.
        """
        if entry.path:
            parent, name = self._place(entry.path)
            with os_errors(entry.path):
                try:
                    os.mkdir(name, 0o700, dir_fd=parent)
                except FileExistsError:
                    self._chain.open(entry.path, create=False)
        self._directories.append(_bare(entry))

    def write_file(self, entry: Entry, pieces: Iterable[bytes | memoryview]) -> None:
        """Write a file from ``pieces``, under its final name only when all of them are there.

        When ``pieces`` raises, which is how its maker says that the content is not authentic,
        nothing is left behind and the exception goes on to the caller.

        Raises:
            DigestError: There are more or fewer bytes than ``entry.size``, and ``entry.error`` does
                not account for that.
            RestoreError: The name exists, or the system refuses.
        """
        parent, name = self._place(entry.path)
        partial = b".auto-backup-%s.partial" % secrets.token_hex(8).encode()
        with os_errors(entry.path):
            descriptor = os.open(partial, _FILE_FLAGS, 0o600, dir_fd=parent)
        try:
            status = self._fill(descriptor, entry, pieces)
            with os_errors(entry.path):
                publish(parent, partial, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial, dir_fd=parent)
            raise
        if entry.links > 1:  # a record for each of a million files would be memory for nothing
            self._written[entry.path] = (status.st_dev, status.st_ino)

    def link_file(self, entry: Entry, first: Entry) -> None:
        """Make ``entry`` another name of the file ``first``.

        Raises:
            RestoreError: This writer did not write ``first`` as a file with several ``links``, or
                something else is there by now, or the system refuses.
        """
        identity = self._written.get(first.path)
        if identity is None:
            raise _not_ours(entry, first)
        directory, _, first_name = first.path.rpartition(b"/")
        source = self._first_chain.open(directory, create=False)
        parent, name = self._place(entry.path)
        with os_errors(entry.path):
            if _identity(source, first_name) != identity:
                raise _not_ours(entry, first)
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            if _identity(parent, name) != identity:  # it was swapped between the two calls
                os.unlink(name, dir_fd=parent)
                raise _not_ours(entry, first)
        self._written[entry.path] = identity

    def defer_symlink(self, entry: Entry) -> None:
        """Keep a symbolic link for ``finish``; from now on nothing goes below its path.

        Raises:
            UnsafePathError: Its target holds NUL, or it lies below another symbolic link.
            RestoreError: The system refuses.
        """
        if b"\0" in entry.target:
            raise UnsafePathError(f"cannot restore {path_text(entry.path)!r}: its target holds NUL")
        self._place(entry.path)
        self._symlinks[entry.path] = _bare(entry)

    def make_special(self, entry: Entry) -> None:
        """Make a FIFO or a device; a device that this user may not make is a problem.

        Raises:
            RestoreError: The name exists, there is no such device, or the system refuses.
        """
        kind = _NODES[entry.type]
        parent, name = self._place(entry.path)
        with os_errors(entry.path):
            try:
                os.mknod(name, kind | 0o600, _device_number(entry), dir_fd=parent)
            except PermissionError as error:
                if entry.type is EntryType.FIFO:
                    raise
                self.problems.append((entry.path, f"device not made: {error.strerror}"))
            else:
                self._dress_node(parent, name, entry, kind)

    def finish(self) -> None:
        """Make the symbolic links, then set the metadata of directories, deepest first.

        Raises:
            RestoreError: A link's name exists, a directory is gone, or the system refuses.
        """
        symlinks = list(self._symlinks.values())
        self._symlinks.clear()
        for entry in symlinks:
            self._make_symlink(entry)
        # A directory's mode may close it, and what is made in it changes its time.
        for entry in sorted(self._directories, key=_sorting_key, reverse=True):
            directory = self._chain.open(entry.path, create=False)
            self._metadata.set(directory, entry, os.fstat(directory))
        self._directories.clear()
        with os_errors(b""):
            sync_directory(self._root)

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """Return the descriptor of the directory of ``path``, and its name in there."""
        check_path(path)
        if not path or path in self._symlinks:
            reason = "a symbolic link is to be there" if path else "it is the target itself"
            raise UnsafePathError(f"cannot restore {path_text(path)!r}: {reason}")
        directory, _, name = path.rpartition(b"/")
        return self._chain.open(directory), name

    def _fill(
        self, descriptor: int, entry: Entry, pieces: Iterable[bytes | memoryview]
    ) -> os.stat_result:
        """Write content and metadata, and close ``descriptor`` in any case."""
        try:
            write_pieces(descriptor, entry, pieces)
            status = os.fstat(descriptor)
            self._metadata.set(descriptor, entry, status)
        except BaseException:
            os.close(descriptor)
            raise
        with os_errors(entry.path):  # some file systems tell only here that they are full
            os.close(descriptor)
        return status

    def _make_symlink(self, entry: Entry) -> None:
        parent, name = self._place(entry.path)
        with os_errors(entry.path):
            os.symlink(entry.target, name, dir_fd=parent)
            self._dress_node(parent, name, entry, stat.S_IFLNK)

    def _dress_node(self, parent: int, name: bytes, entry: Entry, kind: int) -> None:
        """Set the metadata of what must not be opened, through a handle of that very node.

        By name, even without following links, somebody who may write to the directory could put
        a hard link to a foreign file in its place before its owner is set.
        """
        handle = os.open(name, _HANDLE_FLAGS, dir_fd=parent)
        try:
            status = os.fstat(handle)
            if stat.S_IFMT(status.st_mode) != kind:
                raise RestoreError(f"cannot restore {path_text(entry.path)!r}: it was replaced")
            self._metadata.set(f"/proc/self/fd/{handle}", entry, status)
        finally:
            os.close(handle)


def _device_number(entry: Entry) -> int:
    if entry.type is EntryType.FIFO:
        return 0
    major, minor = entry.device or (-1, -1)
    if 0 <= major < _MAJORS and 0 <= minor < _MINORS:
        return os.makedev(major, minor)
    text = f"there is no such device as {entry.device}"
    raise RestoreError(f"cannot restore {path_text(entry.path)!r}: {text}")


def _bare(entry: Entry) -> Entry:
    """Return of ``entry`` what is needed at the end: there may be a million of them."""
    return Entry(
        path=entry.path,
        type=entry.type,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        target=entry.target,
        xattrs=entry.xattrs,
    )


def _sorting_key(entry: Entry) -> bytes:
    return path_key(entry.path)


def _identity(directory: int, name: bytes) -> tuple[int, int]:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _not_ours(entry: Entry, first: Entry) -> RestoreError:
    message = f"cannot restore {path_text(entry.path)!r}: {path_text(first.path)!r}"
    return RestoreError(f"{message}, which it links to, is not a file of this restore")
