"""Plain archives as what a restore reads: planned, confined and written as snapshots are."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from backup.errors import IntegrityError, RestoreError
from backup.matching import NextData, ReadAt
from backup.model import Entry
from backup.plain.arranging import Limits
from backup.plain.reading import PlainArchive, open_archive, place_of
from backup.restore.descriptors import is_about_all
from backup.restore.frame_files import OnOutcome, Outcome, WantedFile
from backup.restore.options import RestoreOptions
from backup.restore.origin import OnLost
from backup.restore.paths import paths_above
from backup.restore.plan import RestorePlan, plan_restore
from backup.restore.tree_writer import TreeWriter
from backup.snapshot.content import fill_holes
from backup.snapshot.recipients import Identity

_BLOCK = 2**20


class LostRest(NamedTuple):
    """What of an archive cannot be read."""

    error: IntegrityError

    def may_hold(self, path: bytes) -> bool:  # noqa: ARG002 - nobody knows what it held
        """See ``Lost``."""
        return True

    def __str__(self) -> str:
        """Return what is lost, for people."""
        return self.error.message


class ArchiveFile(NamedTuple):
    """A plain archive by its path; see ``Restorable``."""

    path: Path
    limits: Limits

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.path)

    def open(
        self,
        identities: Sequence[Identity] = (),  # noqa: ARG002 - nothing is sealed
        *,
        trusted: Collection[bytes] | None = None,  # noqa: ARG002 - nothing is signed
    ) -> ArchiveOrigin:
        """Open it, and look at it as a whole."""
        archive = open_archive(self.path, self.limits)
        archive.check()
        return ArchiveOrigin(archive)


class ArchiveOrigin:
    """A plain archive as an ``Origin``.

    Owners are set for root only, and nobody else is told that they are not: archives of others
    hardly ever have those of the user who unpacks them.
    """

    sources: Sequence[bytes] = (b"",)
    unread: int = 0
    hint: str | None = "what comes before the damage is whole; get another copy of the archive"

    def __init__(self, archive: PlainArchive) -> None:
        self.archive = archive
        self.unfit = archive.unfit
        self.sets_owner: bool | None = None if os.geteuid() == 0 else False

    def select(self, paths: Sequence[bytes], on_lost: OnLost) -> Iterator[Entry]:
        """See ``Origin``."""
        yield from select_members(self.archive, paths)
        for error in self.archive.lost:
            on_lost(LostRest(error))

    def why_no_deletion(self) -> str:
        """See ``Origin``."""
        return "a plain archive does not tell what it left out"

    def has_content(self, entry: Entry, read_at: ReadAt, next_data: NextData) -> bool:
        """See ``Origin``."""
        del next_data
        stored = next(self.archive.read([entry])) if not entry.digest else None
        runs = ((0, entry.size),) if entry.data is None or stored is not None else entry.data
        digest, expected = sha256(), sha256()
        for start, length in runs:
            for at in range(start, start + length, _BLOCK):
                digest.update(read_at(at, min(_BLOCK, start + length - at)))
        for piece in stored or ():
            expected.update(piece)
        if digest.digest() != (entry.digest or expected.digest()):
            return False
        return entry.data is None or all(_is_zero(read_at, *one) for one in _holes(entry))

    def files(
        self,
        writer: TreeWriter,
        on_outcome: OnOutcome,
        *,
        workers: int | None,  # noqa: ARG002 - one stream is read by one
    ) -> ArchiveFiles:
        """See ``Origin``."""
        return ArchiveFiles(self.archive, writer, on_outcome)


class ArchiveFiles:
    """Writes files in the order in which their contents stand in the archive; a ``FileStore``."""

    def __init__(self, archive: PlainArchive, writer: TreeWriter, on_outcome: OnOutcome) -> None:
        self._archive = archive
        self._writer = writer
        self._on_outcome = on_outcome
        self._waiting: list[WantedFile] = []
        self._damaged: dict[tuple[int, int], IntegrityError] = {}

    def takes(self, entry: Entry) -> bool:
        """See ``FileStore``."""
        return bool(entry.extents)

    def add(self, entry: Entry, *, replace: bool) -> None:
        """See ``FileStore``."""
        self._waiting.append(WantedFile(entry, replace))

    def write(self, entry: Entry, *, replace: bool) -> None:
        """See ``FileStore``."""
        known = self._damaged.get(place_of(entry))
        if known is not None:  # all of the archive before it is not read again for nothing
            raise type(known)(known.message, hint=known.hint)
        self._writer.write_file(entry, next(self._archive.read([entry])), replace=replace)

    def finish(self) -> None:
        """See ``FileStore``."""
        waiting = sorted(self._waiting, key=lambda wanted: place_of(wanted.entry))
        self._waiting.clear()
        contents = self._archive.read(wanted.entry for wanted in waiting)
        for (entry, replace), content in zip(waiting, contents, strict=True):
            error: IntegrityError | RestoreError | None = None
            try:
                self._writer.write_file(entry, content, replace=replace)
            except IntegrityError as damage:
                self._damaged[place_of(entry)] = error = damage
            except RestoreError as refusal:
                if is_about_all(refusal):
                    raise
                error = refusal
            self._on_outcome(Outcome(entry, replace, error))

    def close(self) -> None:
        """See ``FileStore``."""
        self._waiting.clear()


def plan_archive(
    path: Path, target: Path, paths: Sequence[bytes], options: RestoreOptions, limits: Limits
) -> tuple[RestorePlan, ArchiveOrigin]:
    """Return the plan to restore ``paths`` of a plain archive, and the archive, opened.

    Raises:
        RestoreError: See ``plan_restore``; or a password is needed.
        IntegrityError: Nothing of the archive can be read, or it is larger than ``limits``.
    """
    file = ArchiveFile(path, limits)
    origin = file.open()
    return plan_restore(origin, file, target, paths, options), origin


def select_members(archive: PlainArchive, paths: Sequence[bytes]) -> Iterator[Entry]:
    """Yield the entries of ``paths``, all below them, and the directories on the way to them."""
    wanted = frozenset(paths)
    if not wanted or b"" in wanted:
        yield from archive.entries
        return
    above = {one for path in wanted for one in paths_above(path)} - wanted
    for entry in archive.entries:
        if entry.path in above or _is_at_or_below(entry.path, wanted):
            yield entry


def _is_at_or_below(path: bytes, wanted: frozenset[bytes]) -> bool:
    return any(path == one or path.startswith(one + b"/") for one in wanted)


def read_member(archive: PlainArchive, entry: Entry) -> Iterator[bytes | memoryview]:
    """Yield the whole content of a file; see ``PlainArchive.read``."""
    return fill_holes(entry, next(archive.read([entry])))


def _holes(entry: Entry) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in entry.data or ():
        yield at, offset
        at = offset + length
    yield at, entry.size


def _is_zero(read_at: ReadAt, start: int, stop: int) -> bool:
    for at in range(start, stop, _BLOCK):
        block = read_at(at, min(_BLOCK, stop - at))
        if block.count(0) != len(block):
            return False
    return True
