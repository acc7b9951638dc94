"""What files come from: a snapshot, or anything else that has entries and their contents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

from backup.matching import NextData, ReadAt, file_has_content
from backup.model import NO_RULES, Entry
from backup.restore.frame_files import FrameFiles, OnOutcome
from backup.restore.report import WITHOUT_INDEX
from backup.restore.tree_writer import TreeWriter
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.recipients import Identity
from backup.snapshot.selection import select_entries


class Lost(Protocol):
    """A part of what is to be restored that cannot be read; as text it tells which, and why."""

    def may_hold(self, path: bytes) -> bool:
        """Return whether ``path``, or something below it, may have been in this part."""
        ...


OnLost = Callable[[Lost], object]


class FileStore(Protocol):
    """Writes files below a target."""

    def takes(self, entry: Entry) -> bool:
        """Return whether ``entry`` may be written some time, with ``add``."""
        ...

    def add(self, entry: Entry, *, replace: bool) -> None:
        """Write ``entry`` some time, and tell then what became of it."""
        ...

    def write(self, entry: Entry, *, replace: bool) -> None:
        """Write ``entry`` now."""
        ...

    def finish(self) -> None:
        """Write all that waits."""
        ...

    def close(self) -> None:
        """Wait for nothing any more; what is not whole is deleted."""
        ...


class Origin(Protocol):
    """What is restored: its entries, in the order of ``path_key``, and their contents."""

    @property
    def sources(self) -> Sequence[bytes]:
        """Where the entries came from, for a restore in place."""
        ...

    @property
    def unread(self) -> int:
        """How much of the sources could not be read when it was made."""
        ...

    @property
    def unfit(self) -> Mapping[bytes, str]:
        """Which entries are not restored, and why."""
        ...

    @property
    def sets_owner(self) -> bool | None:
        """See ``TreeWriter``."""
        ...

    @property
    def hint(self) -> str | None:
        """What to do where a part is lost."""
        ...

    def select(self, paths: Sequence[bytes], on_lost: OnLost) -> Iterator[Entry]:
        """Yield the entries of ``paths``, all below them, and the directories on the way."""
        ...

    def why_no_deletion(self) -> str:
        """Return why nobody can tell what it never had from what it left out, ``""`` if one can."""
        ...

    def has_content(self, entry: Entry, read_at: ReadAt, next_data: NextData) -> bool:
        """Tell whether a file has the content of ``entry``; see ``file_has_content``."""
        ...

    def files(self, writer: TreeWriter, on_outcome: OnOutcome, *, workers: int | None) -> FileStore:
        """Return what writes its files below the target of ``writer``."""
        ...


class Restorable(Protocol):
    """Something that can be opened to be restored, by its name."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    def open(
        self, identities: Sequence[Identity], *, trusted: Collection[bytes] | None = None
    ) -> SnapshotReader | Origin:
        """Open it."""
        ...


class SnapshotOrigin:
    """A snapshot as an ``Origin``."""

    unfit: Mapping[bytes, str] = MappingProxyType({})
    sets_owner: bool | None = None
    hint: str | None = WITHOUT_INDEX

    def __init__(self, reader: SnapshotReader) -> None:
        self._reader = reader
        self.sources: Sequence[bytes] = reader.record.sources
        self.unread: int = reader.record.counts.errors

    def select(self, paths: Sequence[bytes], on_lost: OnLost) -> Iterator[Entry]:
        """See ``Origin``."""
        return select_entries(self._reader, paths, on_lost=on_lost)

    def why_no_deletion(self) -> str:
        """See ``Origin``."""
        if self._reader.record.incomplete:
            return "it is an incomplete one"
        if self._reader.record.rules != NO_RULES:
            return "it was taken with rules that left something out"
        return ""

    def has_content(self, entry: Entry, read_at: ReadAt, next_data: NextData) -> bool:
        """See ``Origin``."""
        return file_has_content(self._reader, entry, read_at, next_data)

    def files(self, writer: TreeWriter, on_outcome: OnOutcome, *, workers: int | None) -> FileStore:
        """See ``Origin``."""
        return FrameFiles(self._reader, writer, on_outcome, workers=workers)


def as_origin(opened: SnapshotReader | Origin) -> Origin:
    """Return what a ``Restorable`` opened as an origin."""
    return SnapshotOrigin(opened) if isinstance(opened, SnapshotReader) else opened
