"""Walking directory trees."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from backup.model import Entry
from backup.sources.describing import Describer, Skipped
from backup.sources.descriptors import DirectoryChain, list_names
from backup.sources.filesystems import Filesystem
from backup.sources.roots import Root, prepare_roots

__all__ = ["Skipped", "TreeWalker", "walk"]


def walk(
    roots: Sequence[bytes], *, skip: Collection[tuple[int, int]] = ()
) -> Iterator[Entry | Skipped]:
    """Yield what is below ``roots``; see ``TreeWalker``, which also knows the file systems.

    Raises:
        ConfigError: See ``prepare_roots``.
        SourceError: See ``prepare_roots``.
    """
    return iter(TreeWalker(prepare_roots(roots), skip=skip))


class TreeWalker:
    """Yields an entry for everything below its roots, the roots included.

    Entries come in the order of ``path_key``: a directory before what is in it, the names of each
    directory sorted as bytes. No symbolic link is followed. What cannot be read is reported as
    ``Skipped`` in its place, and the walk goes on; a directory that can be described but not listed
    gives both. The number of open descriptors is bounded, however deep the tree is.

    Args:
        roots: Where to start, as ``prepare_roots`` returns them.
        skip: ``(st_dev, st_ino)`` of directories to leave out: the tool's own stores.
    """

    def __init__(self, roots: Sequence[Root], *, skip: Collection[tuple[int, int]] = ()) -> None:
        self._roots = roots
        self._skip = frozenset(skip)
        self._describer = Describer()

    @property
    def filesystems(self) -> Sequence[Filesystem]:
        """The file systems met so far; ``Entry.filesystem`` counts in this list."""
        return self._describer.table.filesystems

    def __iter__(self) -> Iterator[Entry | Skipped]:
        with DirectoryChain() as chain:
            walk_under_way = _Walk(chain, self._describer, self._skip)
            for root in self._roots:
                yield from walk_under_way.walk_root(root.path)


class _Level:
    """A directory half-way through; ``names`` are those to come, last one first, once listed."""

    __slots__ = ("identity", "names", "path")

    def __init__(self, path: bytes, identity: tuple[int, int]) -> None:
        self.path = path
        self.identity = identity
        self.names: list[bytes] | None = None


class _Walk:
    """One iteration: the directories that it is in, outermost first."""

    def __init__(
        self, chain: DirectoryChain, describer: Describer, skip: frozenset[tuple[int, int]]
    ) -> None:
        self._chain = chain
        self._describer = describer
        self._skip = skip
        self._levels: list[_Level] = []

    def walk_root(self, path: bytes) -> Iterator[Entry | Skipped]:
        above, _, name = path.rpartition(b"/")
        try:
            directory = self._chain.open(above)
        except OSError as error:
            yield _failed(path, error)
            return
        yield self._visit(path, name or b".", directory)
        while self._levels:
            yield from self._go_on(self._levels[-1])

    def _go_on(self, level: _Level) -> Iterator[Entry | Skipped]:
        """Go on in the innermost directory until it is done or leads into another one."""
        try:
            directory, names = self._open(level)
        except OSError as error:
            self._levels.pop()
            yield _failed(level.path, error)
            return
        prefix = level.path + b"/" if level.path else b""
        while names:
            name = names.pop()
            yield self._visit(prefix + name, name, directory)
            if self._levels[-1] is not level:
                if not names:
                    # Done: coming back could only find that it has been replaced meanwhile.
                    del self._levels[-2]
                return
        self._levels.pop()

    def _open(self, level: _Level) -> tuple[int, list[bytes]]:
        directory = self._chain.open(level.path)
        status = os.fstat(directory)
        if _identity(status) != level.identity:
            raise OSError(errno.ESTALE, "replaced while it was being read")
        if not status.st_nlink:
            raise OSError(errno.ENOENT, "removed")  # it would only look empty
        if level.names is None:
            level.names = sorted(list_names(directory), reverse=True)
        return directory, level.names

    def _visit(self, path: bytes, name: bytes, directory: int) -> Entry | Skipped:
        """Describe one name; a directory becomes the innermost level."""
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                status = self._status_when_open(path, status)
                if _identity(status) in self._skip:
                    return Skipped(path, "own store", is_error=False)
                self._levels.append(_Level(path, _identity(status)))
            return self._describer.describe(path, status, name, directory)
        except OSError as error:
            return _failed(path, error)

    def _status_when_open(self, path: bytes, status: os.stat_result) -> os.stat_result:
        # Opening may mount a file system there, and the entry describes what will be listed. A
        # directory that cannot be opened is reported when its turn to be listed comes.
        with suppress(OSError):
            return os.fstat(self._chain.open(path))
        return status


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _failed(path: bytes, error: OSError) -> Skipped:
    if error.errno == errno.ENOENT:
        return Skipped(path, "vanished", is_error=True)
    return Skipped(path, error.strerror or str(error), is_error=True)
