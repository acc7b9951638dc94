"""Writing entries of a snapshot below a target directory, where nothing can lead out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

from backup.errors import RestoreError, UnsafePathError
from backup.model import Entry, EntryType, path_key, path_text
from backup.restore.descriptors import (
    identity_of,
    os_errors,
    sync_directory,
)
from backup.restore.file_writer import FileWriter, Fill, write_pieces
from backup.restore.metadata import Node, device_number
from backup.restore.paths import check_path
from backup.restore.removal import Doomed
from backup.restore.replacing import Batch, partial_name

__all__ = ["TreeWriter", "check_path"]

_NODES = {
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}


class TreeWriter(FileWriter):
    """Writes entries below ``target``; whatever they say, nothing outside of it is reached.

    Every access goes through the descriptor of a directory and one name in it, and follows no
    symbolic link; links of the snapshot are made last, in ``finish``. A file has its final name
    only once it is complete. Nothing that exists is replaced unless a call says ``replace``: then
    the old one is whole until the new one takes its name. Directories are merged.
    Entries may come in any order; that of ``path_key`` is the fast one. Left without ``finish``,
    the tree lacks its symbolic links, and its directories stay private to this user.

    Args:
        target: See TargetTree.
        set_owner: See TargetTree.
        doomed: Directories that may be replaced with all that is in them.

    Raises:
        RestoreError: The target is no directory, or cannot be made or opened.
    """

    def __init__(
        self,
        target: Path | int,
        *,
        set_owner: bool | None = None,
        doomed: Mapping[bytes, Doomed] | None = None,
    ) -> None:
        super().__init__(target, set_owner=set_owner, doomed=doomed)
        self._directories: list[Entry] = []
        self._unchanged: set[bytes] = set()
        self._batch = Batch(self._chain, self._replacer)

    def close(self) -> None:
        """Close all descriptors, finished or not; what still waits for its name is deleted."""
        self._batch.discard()
        super().close()

    def flush(self) -> None:
        """Give those that replace files their names; what refuses one of them is a problem.

        Raises:
            RestoreError: The file system fails.
        """
        with os_errors(b""):
            for path in self._batch.flush():
                with self.problems_told(path), os_errors(path):
                    self._batch.put(path)

    def make_directory(self, entry: Entry, *, replace: bool = False) -> None:
        """Make a directory, or take the one that is there; ``finish`` sets its metadata.

        Raises:
            RestoreError: Something else has that name, or the system refuses.
        """
        if entry.path:
            parent, name = self._place(entry.path)
            made = partial_name() if replace else name
            with os_errors(entry.path):
                try:
                    os.mkdir(made, 0o700, dir_fd=parent)
                except FileExistsError:
                    self._chain.open(entry.path, create=False)
                if replace:
                    self._replacer.put_directory(made, entry.path)
        self._directories.append(_bare(entry))

    def keep_directory(self, entry: Entry) -> None:
        """Take a directory that is there as it is; ``finish`` gives it back its time."""
        self._directories.append(_bare(entry))
        self._unchanged.add(entry.path)

    def write_file(
        self, entry: Entry, pieces: Iterable[bytes | memoryview], *, replace: bool = False
    ) -> None:
        """Write a file from ``pieces``, under its final name only when all of them are there.

        One that replaces another gets its name with ``flush``, or when many wait for that.

        When ``pieces`` raises, which is how its maker says that the content is not authentic,
        nothing is left behind and the exception goes on to the caller.

        Raises:
            DigestError: There are more or fewer bytes than ``entry.size``, and ``entry.error`` does
                not account for that.
            RestoreError: The name exists, or the system refuses.
        """
        self.write_file_by(
            entry, lambda file: write_pieces(file, entry, pieces), partial_name(), replace=replace
        )

    def write_file_by(self, entry: Entry, fill: Fill, hidden: bytes, *, replace: bool) -> None:
        """Write a file as ``write_file`` does, its content by ``fill``, which may raise.

        Raises:
            RestoreError: The name exists, or the system refuses.
        """
        status = self.write_hidden(entry, fill, hidden, publish=not replace)
        if replace:
            self.add_hidden(entry, hidden)
        if entry.links > 1:  # a record for each of a million files would be memory for nothing
            self._written[entry.path] = (status.st_dev, status.st_ino)

    def add_hidden(self, entry: Entry, hidden: bytes) -> None:
        """Let a file that has been written get its name with ``flush``, or when many wait."""
        if self._batch.add(hidden, entry.path, entry.stored_size):
            self.flush()

    def link_file(self, entry: Entry, first: Entry, *, replace: bool = False) -> None:
        """Make ``entry`` another name of the file ``first``.

        Raises:
            RestoreError: This writer did not write ``first`` as a file with several ``links``, or
                something else is there by now, or the system refuses.
        """
        identity = self._written.get(first.path)
        if identity is None:
            raise _not_ours(entry, first)
        if first.path in self._batch:
            self.flush()
        directory, _, first_name = first.path.rpartition(b"/")
        source = self._first_chain.open(directory, create=False)
        parent, name = self._place(entry.path)
        made = partial_name() if replace else name
        with os_errors(entry.path):
            if identity_of(source, first_name) != identity:
                raise _not_ours(entry, first)
            os.link(first_name, made, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            if identity_of(parent, made) != identity:  # it was swapped between the two calls
                os.unlink(made, dir_fd=parent)
                raise _not_ours(entry, first)
            if replace:
                self._replacer.put(made, entry.path, replace=True)
        self._written[entry.path] = identity

    def defer_symlink(self, entry: Entry, *, replace: bool = False) -> None:
        """Keep a symbolic link for ``finish``; from now on nothing goes below its path.

        Raises:
            UnsafePathError: Its target holds NUL, or it lies below another symbolic link.
            RestoreError: The system refuses.
        """
        if b"\0" in entry.target:
            raise UnsafePathError(f"cannot restore {path_text(entry.path)!r}: its target holds NUL")
        self._place(entry.path)
        self._symlinks[entry.path] = _bare(entry), replace

    def make_special(self, entry: Entry, *, replace: bool = False) -> None:
        """Make a FIFO or a device; a device that this user may not make is a problem.

        Raises:
            RestoreError: The name exists, there is no such device, or the system refuses.
        """
        kind = _NODES[entry.type]
        parent, name = self._place(entry.path)
        made = partial_name() if replace else name
        with os_errors(entry.path):
            try:
                os.mknod(made, kind | 0o600, device_number(entry), dir_fd=parent)
            except PermissionError as error:
                if entry.type is EntryType.FIFO:
                    raise
                self.problems.append((entry.path, f"device not made: {error.strerror}"))
                return
            self._dress(parent, made, entry, kind, replace=replace)

    def finish(self, *, tell: bool = False) -> None:
        """Make the symbolic links, then set the metadata of directories, deepest first.

        Args:
            tell: Whether a refusal that is about one of them is a problem, not an error.

        Raises:
            RestoreError: A link's name exists, a directory is gone, or the system refuses.
        """
        self.flush()
        symlinks = list(self._symlinks.values())
        self._symlinks.clear()
        for entry, replace in symlinks:
            with self.problems_told(entry.path) if tell else nullcontext():
                self._make_symlink(entry, replace=replace)
        self.dress_directories(tell=tell)
        with os_errors(b""):
            sync_directory(self._root)

    def dress_directories(self, *, tell: bool = False) -> None:
        """Set the metadata of the directories so far, as ``finish`` does."""
        # A directory's mode may close it, and what is made in it changes its time.
        for entry in sorted(self._directories, key=_sorting_key, reverse=True):
            with self.problems_told(entry.path) if tell else nullcontext():
                directory = self._chain.open(entry.path, create=False)
                status = os.fstat(directory)
                if entry.path not in self._unchanged or status.st_mtime_ns != entry.mtime_ns:
                    self._metadata.set(directory, entry, status)
        self._directories.clear()

    def _make_symlink(self, entry: Entry, *, replace: bool) -> None:
        parent, name = self._place(entry.path)
        made = partial_name() if replace else name
        with os_errors(entry.path):
            os.symlink(entry.target, made, dir_fd=parent)
            self._dress(parent, made, entry, stat.S_IFLNK, replace=replace)

    def _dress(self, parent: int, made: bytes, entry: Entry, kind: int, *, replace: bool) -> None:
        """Set the metadata of what has just been ``made``, then give it its own name."""
        with Node(parent, made, entry.path) as node:
            node.check(kind=kind)
            node.set(self._metadata, entry)
        if replace:
            self._replacer.put(made, entry.path, replace=True)


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


def _not_ours(entry: Entry, first: Entry) -> RestoreError:
    message = f"cannot restore {path_text(entry.path)!r}: {path_text(first.path)!r}"
    return RestoreError(f"{message}, which it links to, is not a file of this restore")
