"""One walk under way: going into directories and out again, deciding what is left out."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from backup.model import Entry, path_text
from backup.sources.describing import Describer, Skipped
from backup.sources.descriptors import DirectoryChain, list_names
from backup.sources.filesystems import KERNEL_MADE, mount_id
from backup.sources.markers import marked
from backup.sources.rules import Cause, Excluder, Rule

_NOWHERE = -1
_REPLACED = "replaced while it was being read"
_OWN_WORDS = {
    errno.ENOENT: "vanished",
    errno.ENOTDIR: _REPLACED,
    errno.EBADMSG: "its file system is damaged",
    errno.EUCLEAN: "its file system is damaged",
}


def contains(top: bytes, path: bytes) -> bool:
    """Return whether ``path`` is ``top``, or lies below it."""
    return not top or path == top or path.startswith(top + b"/")


class _Level:
    """A directory half-way through; ``names`` are those to come, last one first, once listed.

    ``rule`` is why its contents are left out, until that has been told.
    """

    __slots__ = ("identity", "names", "path", "rule")

    def __init__(self, path: bytes, identity: tuple[int, int]) -> None:
        self.path = path
        self.identity = identity
        self.names: list[bytes] | None = None
        self.rule: Rule | None = None


class Walk:
    """One iteration: the directories that it is in, outermost first."""

    def __init__(
        self,
        chain: DirectoryChain,
        describer: Describer,
        skip: frozenset[tuple[int, int]],
        excluder: Excluder | None,
        along: bytes | None = None,
        *,
        unseen: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        self._chain = chain
        self._describer = describer
        self._skip = skip
        self._unseen = unseen
        self._rules = excluder
        self._excluder: Excluder | None = None
        self._along = along
        self._levels: list[_Level] = []
        self._inside: dict[tuple[int, int], bytes] = {}
        self._below_root = 0

    def walk_root(self, path: bytes) -> Iterator[Entry | Skipped]:
        """Yield what is at and below the root ``path``."""
        above, _, name = path.rpartition(b"/")
        self._below_root = len(path) + 1 if path else 0
        self._excluder = None if self._rules is None else self._rules.at(path)
        try:
            directory = self._chain.open(above)
        except OSError as error:
            yield _failed(path, error)
            return
        found = self._visit(path, name or b".", directory)
        if found is not None:
            yield found
        while self._levels:
            yield from self._go_on(self._levels[-1])

    def _go_on(self, level: _Level) -> Iterator[Entry | Skipped]:
        """Go on in the innermost directory until it is done or leads into another one."""
        try:
            directory, names = self._open(level)
        except OSError as error:
            self._leave()
            yield _failed(level.path, error)
            return
        if level.rule is not None:
            yield _left_out(level.path, level.rule)
            level.rule = None
        prefix = level.path + b"/" if level.path else b""
        while names:
            name = names.pop()
            found = self._visit(prefix + name, name, directory)
            if found is not None:
                yield found
            if self._levels[-1] is not level:
                return
        self._leave()

    def _leave(self) -> None:
        level = self._levels.pop()
        if self._inside.get(level.identity) == level.path:
            del self._inside[level.identity]

    def _open(self, level: _Level) -> tuple[int, list[bytes]]:
        if level.names == []:
            # Done, or closed: opening it could only find that it has been replaced meanwhile.
            return _NOWHERE, level.names
        directory = self._chain.open(level.path)
        status = os.fstat(directory)
        if _identity(status) != level.identity:
            raise OSError(errno.ESTALE, _REPLACED)
        if not status.st_nlink:
            raise OSError(errno.ENOENT, "removed")  # it would only look empty
        if level.names is None:
            level.names = self._list(level, directory)
        return directory, level.names

    def _list(self, level: _Level, directory: int) -> list[bytes]:
        """Return the names to visit in a directory, last one first."""
        names = sorted(list_names(directory), reverse=True)
        # A root is never left out, whatever lies in it.
        if self._excluder is not None and len(self._levels) > 1:
            found = marked(self._excluder, directory, names)
            if found is not None:
                level.rule, names = found
        if self._along is not None:
            prefix = level.path + b"/" if level.path else b""
            names = [name for name in names if contains(prefix + name, self._along)]
        return names

    def _visit(self, path: bytes, name: bytes, directory: int) -> Entry | Skipped | None:
        """Describe one name, unless it is unseen; a directory becomes the innermost level."""
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError as error:
            # Nobody wants to hear of what was to be left out anyway, whatever it was.
            rule = self._excluded(path, name, stat.S_IFREG) or self._excluded(
                path, name, stat.S_IFDIR
            )
            return _left_out(path, rule) if rule is not None else _failed(path, error)
        if self._unseen and _identity(status) in self._unseen:
            return None
        if self._excluder is not None:
            rule = self._excluded(path, name, status.st_mode, status.st_size)
            if rule is not None:
                return _left_out(path, rule)
        try:
            if stat.S_ISDIR(status.st_mode):
                status = self._status_when_open(path, status)
                if _identity(status) in self._skip:
                    return _left_out(path, Rule(Cause.OWN_STORE))
                self._enter(path, status, directory)
            return self._describer.describe(path, status, name, directory)
        except OSError as error:
            return _failed(path, error)

    def _excluded(self, path: bytes, name: bytes, mode: int, size: int = 0) -> Rule | None:
        """Return the rule that leaves a name out altogether; roots never are."""
        if self._excluder is None or not self._levels:
            return None
        return self._excluder.decide(
            name,
            path[self._below_root :],
            is_directory=stat.S_ISDIR(mode),
            size=size if stat.S_ISREG(mode) else 0,
        )

    def _status_when_open(self, path: bytes, status: os.stat_result) -> os.stat_result:
        # Opening may mount a file system there, and the entry describes what will be listed. A
        # directory that cannot be opened is reported when its turn to be listed comes.
        if self._is_border(status.st_dev) and self._one_file_system():
            return status
        with suppress(OSError):
            return os.fstat(self._chain.open(path))
        return status

    def _enter(self, path: bytes, status: os.stat_result, above: int) -> None:
        """Make a directory the innermost level, closed where its contents are left out.

        Raises:
            OSError: It has the number of a directory that it lies in, and is not mounted there.
        """
        level = _Level(path, _identity(status))
        level.rule = self._boundary(path, level.identity, above)
        if level.rule is not None:
            level.names = []
        else:
            self._inside[level.identity] = path
        self._levels.append(level)

    def _boundary(self, path: bytes, identity: tuple[int, int], above: int) -> Rule | None:
        """Return why the walk does not go into a directory, though nobody named it."""
        outer = self._inside.get(identity)
        if outer is not None:
            if mount_id(self._chain.open(path)) == mount_id(above):
                raise OSError(
                    errno.ELOOP, f"it has the number of {path_text(outer)}, which it lies in"
                )
            return Rule(Cause.LOOP, path_text(outer))
        if not self._is_border(identity[0]):
            return None
        table = self._describer.table
        kind = table.filesystems[table.ordinal(identity[0])].type
        if kind in KERNEL_MADE:
            return Rule(Cause.KERNEL, kind)
        return Rule(Cause.OTHER_FILE_SYSTEM) if self._one_file_system() else None

    def _is_border(self, device: int) -> bool:
        """Return whether ``device`` is another one than that of the directory above."""
        return bool(self._levels) and device != self._levels[-1].identity[0]

    def _one_file_system(self) -> bool:
        return self._excluder is not None and self._excluder.rules.one_file_system


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _left_out(path: bytes, rule: Rule) -> Skipped:
    return Skipped(path, rule.reason, is_error=False, rule=rule)


def _failed(path: bytes, error: OSError) -> Skipped:
    own = _OWN_WORDS.get(error.errno or 0)
    return Skipped(path, own or error.strerror or str(error), is_error=True)
