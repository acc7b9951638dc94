"""Where an entry goes, and which entries go nowhere."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from backup.errors import RestoreError, UnsafePathError
from backup.model import Entry, EntryType, path_text
from backup.restore.options import RestoreOptions
from backup.restore.paths import check_path, paths_above
from backup.restore.system_files import SYSTEM_REASONS, is_system_place

_STORE = "it lies in the store"


class Place(NamedTuple):
    """Where an entry goes, or why it goes nowhere.

    ``wanted`` is false for a directory that is only on the way to what was asked for; ``told`` for
    what is left out without a word; ``own`` is true for what belongs to this program, and
    ``is_problem`` where nobody should have saved such a thing.
    """

    path: bytes
    left: str = ""
    wanted: bool = True
    told: bool = True
    own: bool = False
    is_problem: bool = False


class Placement:
    """Places entries one after the other, in the order in which the snapshot has them.

    Args:
        target: The directory below which they go.
        paths: What of the snapshot is wanted; none, or the empty path, mean everything.
        sources: The sources that the snapshot names.
        options: How to restore.
        unfit: Entries that go nowhere, with the reason.
    """

    def __init__(
        self,
        target: Path,
        paths: Sequence[bytes],
        sources: Sequence[bytes],
        options: RestoreOptions,
        unfit: Mapping[bytes, str] | None = None,
    ) -> None:
        self._unfit = unfit or {}
        self._paths = frozenset(paths)
        self._sources = frozenset(sources) if options.in_place else frozenset({b""})
        self._strip = options.strip
        self._base = _absolute(target)
        # Who names a target in /run or /dev/shm means it; what is left alone lies below a target.
        above = set(paths_above(self._base))
        left = {} if options.system else SYSTEM_REASONS
        system = {path: reason for path, reason in left.items() if path not in above}
        own = dict.fromkeys(map(_absolute, options.own), "")
        self._guarded = {**system, **own, **dict.fromkeys(map(_absolute, options.stores), _STORE)}
        self._above: tuple[bytes, tuple[str, bool]] = (b"", self._why_not_below(b""))
        self._prefix: list[bytes] | None = None
        self.prefixes = 0
        self._names: dict[int, bool] = {}

    @property
    def is_stripped(self) -> bool:
        """Whether paths lose leading components."""
        return self._strip > 0

    def place(self, entry: Entry) -> Place:
        """Return where ``entry`` goes.

        Raises:
            RestoreError: Without its leading components its name is that of an earlier entry.
        """
        path, left = entry.path, ""
        try:
            check_path(path)
        except UnsafePathError as error:
            return Place(path, error.message, is_problem=True)
        if path in self._unfit:
            return Place(path, self._unfit[path], is_problem=True)
        if self._strip:
            path, left = self._stripped(entry)
            if left:
                return Place(path, left, told=entry.type is not EntryType.DIRECTORY)
        if not _is_within(entry.path, self._sources):
            on_the_way = entry.type is EntryType.DIRECTORY
            return Place(path, "it is in none of the snapshot's sources", told=not on_the_way)
        wanted = not self._paths or _is_within(entry.path, self._paths)
        reason, own = self._why_not(path)
        return Place(path, reason, wanted, own=own)

    def spared(self, path: bytes) -> str:
        """Return why ``path`` below the target is not to be deleted, ``""`` where it may be."""
        reason, own = self._why_not(path)
        return reason or ("it belongs to auto-backup" if own else "")

    def absolute(self, path: bytes) -> bytes:
        """Return the absolute path of ``path`` below the target, without its leading ``/``."""
        return self._base + b"/" + path if self._base and path else self._base or path

    def is_system_place(self, path: bytes) -> bool:
        """Return whether ``path`` below the target lies in a directory of the system."""
        return is_system_place(self.absolute(path))

    def _why_not(self, path: bytes) -> tuple[str, bool]:
        """Return why nothing is written to ``path``, and whether it is this program's own."""
        absolute = self.absolute(path)
        if absolute in self._guarded:
            return self._guarded[absolute], not self._guarded[absolute]
        directory = absolute.rpartition(b"/")[0]
        if directory != self._above[0]:
            self._above = directory, self._why_not_below(directory)
        return self._above[1]

    def _why_not_below(self, directory: bytes) -> tuple[str, bool]:
        for one in paths_above(directory):
            if one in self._guarded:
                return self._guarded[one], not self._guarded[one]
        return "", False

    def _stripped(self, entry: Entry) -> tuple[bytes, str]:
        names = entry.path.split(b"/") if entry.path else []
        is_directory = entry.type is EntryType.DIRECTORY
        if len(names) < self._strip or (len(names) == self._strip and not is_directory):
            return b"", f"it has no more than {self._strip} leading components"
        prefix, path = names[: self._strip], b"/".join(names[self._strip :])
        if prefix != self._prefix:
            self._prefix = prefix
            self.prefixes += 1
        self._refuse_twice(entry, path, is_directory=is_directory)
        return path, ""

    def _refuse_twice(self, entry: Entry, path: bytes, *, is_directory: bool) -> None:
        """Refuse two entries of one name, of which the second would replace the first."""
        key = hash(path)  # 64 bits, keyed at random by Python: paths of a million names are large
        known = self._names.get(key)
        if known is None:
            self._names[key] = is_directory
        elif not (known and is_directory):
            raise RestoreError(
                f"without {self._strip} leading components two entries would be"
                f" {path_text(path)!r}, one of them {path_text(entry.path)!r}",
                hint="take fewer off with --strip, or restore one of them by its path",
            )


def _is_within(path: bytes, directories: Collection[bytes]) -> bool:
    return b"" in directories or any(one in directories for one in paths_above(path))


def _absolute(path: Path) -> bytes:
    return os.path.realpath(os.fsencode(path)).lstrip(b"/")
