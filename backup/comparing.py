"""What changed between two lists of entries: a merge of two sorted streams, and nothing kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from backup.matching import Verdict
from backup.model import Entry, EntryType, path_key
from backup.snapshot.index import Reference
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.selection import is_at_or_below, select_segments

_CONTENTS = frozenset({EntryType.FILE, EntryType.STREAM})
_MOST_HELD = 100_000

Compare = Callable[[Entry, Entry], Verdict]
"""Tells whether two files have the same content."""


class Kind(StrEnum):
    """In what way an entry changed; ``MAYBE``: its content could not be compared."""

    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"
    TYPE = "type"
    CONTENT = "content"
    METADATA = "metadata"
    MAYBE = "maybe"


class Change(NamedTuple):
    """One difference; ``fields`` are the names of all that differs besides the content."""

    kind: Kind
    old: Entry | None
    new: Entry | None
    fields: tuple[str, ...] = ()

    @property
    def entry(self) -> Entry:
        """The entry as it is in the second list, or was in the first."""
        entry = self.new or self.old
        assert entry is not None  # noqa: S101 - one of them is there by construction
        return entry

    @property
    def is_only_times_of_directory(self) -> bool:
        """Whether it merely follows from a change of what is in the directory."""
        is_directory = self.entry.type is EntryType.DIRECTORY
        return is_directory and self.kind is Kind.METADATA and self.fields == ("mtime",)


@dataclass(kw_only=True)
class Summary:
    """How much changed: how many of each kind, and bytes of contents."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    added: int = 0
    removed: int = 0

    def count(self, change: Change) -> None:
        """Count one change."""
        self.kinds[change.kind] += 1
        if change.kind in {Kind.ADDED, Kind.CONTENT, Kind.TYPE} and change.new is not None:
            self.added += change.new.size
        if change.kind in {Kind.REMOVED, Kind.CONTENT, Kind.TYPE} and change.old is not None:
            self.removed += change.old.size


def compare(old: Iterable[Entry], new: Iterable[Entry], same_content: Compare) -> Iterator[Change]:
    """Yield what differs between two lists of entries, both in the order of ``path_key``."""
    before, after = iter(old), iter(new)
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        if other is None or (one is not None and path_key(one.path) < path_key(other.path)):
            yield Change(Kind.REMOVED, one, None)
            one = next(before, None)
        elif one is None or path_key(other.path) < path_key(one.path):
            yield Change(Kind.ADDED, None, other)
            other = next(after, None)
        else:
            change = _compare_entries(one, other, same_content)
            if change is not None:
                yield change
            one, other = next(before, None), next(after, None)


def _compare_entries(old: Entry, new: Entry, same_content: Compare) -> Change | None:
    if old.type is not new.type:
        return Change(Kind.TYPE, old, new)
    fields = differing_fields(old, new)
    verdict = same_content(old, new) if old.type in _CONTENTS else Verdict.SAME
    if verdict is Verdict.DIFFERENT or {"target", "device"} & set(fields):
        return Change(Kind.CONTENT, old, new, fields)
    if verdict is Verdict.UNKNOWN:
        return Change(Kind.MAYBE, old, new, fields)
    return Change(Kind.METADATA, old, new, fields) if fields else None


def differing_fields(old: Entry, new: Entry) -> tuple[str, ...]:
    """Return in what two entries of one type differ, their contents left aside."""
    differs = {
        "mode": old.mode != new.mode,
        "owner": (old.uid, old.user) != (new.uid, new.user),
        "group": (old.gid, old.group) != (new.gid, new.group),
        "mtime": old.mtime_ns != new.mtime_ns,
        "target": old.target != new.target,
        "device": old.device != new.device,
        "xattrs": sorted(old.xattrs) != sorted(new.xattrs),
    }
    return tuple(name for name, is_so in differs.items() if is_so)


def entries_apart(
    first: SnapshotReader, second: SnapshotReader, paths: Sequence[bytes]
) -> tuple[Iterator[Entry], Iterator[Entry]]:
    """Return the entries of two snapshots, without those that lie in parts of the index they share.

    Args:
        first: A snapshot.
        second: Another one.
        paths: Only what is at or below these, without leading ``/``; none mean everything.
    """
    ours, theirs = (list(select_segments(one, paths)) for one in (first, second))
    shared = {one.digest for one in ours} & {one.digest for one in theirs}
    return _entries(first, ours, shared, paths), _entries(second, theirs, shared, paths)


def _entries(
    reader: SnapshotReader,
    segments: Sequence[Reference],
    left_out: set[bytes],
    paths: Sequence[bytes],
) -> Iterator[Entry]:
    for segment in segments:
        if segment.digest not in left_out:
            for entry in reader.segment(segment):
                if is_at_or_below(entry.path, paths):
                    yield entry


def by_content(entry: Entry) -> Hashable:
    """Return what files of two snapshots with the same content share; ``None`` where unknown."""
    if not entry.size or not entry.digest:
        return None
    return entry.size, entry.digest, entry.data, bool(entry.chunk_lists)


def by_inode(entry: Entry) -> Hashable:
    """Return what a renamed file keeps; ``None`` where there is nothing to tell it by."""
    return (entry.inode, entry.size, entry.mtime_ns) if entry.size and entry.inode else None


def with_moves(
    changes: Iterable[Change],
    key: Callable[[Entry], Hashable],
    *,
    most_held: int = _MOST_HELD,
) -> Iterator[Change]:
    """Yield ``changes`` with what was removed here and added there as one that moved.

    Args:
        changes: What differs.
        key: What a file keeps when it moves, ``None`` where that cannot be told.
        most_held: Beyond so many changes no moves are looked for: memory stays bounded.
    """
    stream = iter(changes)
    held: list[Change] = []
    for change in stream:
        held.append(change)
        if len(held) > most_held:
            yield from held
            yield from stream
            return
    moved_from = _pair(held, key)
    gone = {id(one) for one in moved_from.values()}
    for change in held:
        if change.new is not None and change.new.path in moved_from:
            old = moved_from[change.new.path].old
            assert old is not None  # noqa: S101 - what was removed was there
            yield Change(Kind.MOVED, old, change.new, differing_fields(old, change.new))
        elif id(change) not in gone:
            yield change


def _pair(held: Sequence[Change], key: Callable[[Entry], Hashable]) -> dict[bytes, Change]:
    """Return the removals that belong to additions, by the paths of these."""
    removed: dict[Hashable, list[Change]] = {}
    for change in reversed(held):
        if change.kind is Kind.REMOVED and change.entry.type in _CONTENTS:
            removed.setdefault(key(change.entry), []).append(change)
    removed.pop(None, None)
    pairs = {}
    for change in held:
        if change.kind is Kind.ADDED and change.entry.type in _CONTENTS:
            fitting = removed.get(key(change.entry))
            if fitting:
                pairs[change.entry.path] = fitting.pop()
    return pairs
