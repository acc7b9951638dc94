"""Planning the frames of an archive: which entries, or which part of a file, each one holds.

A frame job is 8 MiB of entries, or a run of chunks of one large file. Planning reads nothing but
what it is given; where a large file is to be cut is asked from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from backup.archive.tar import padding
from backup.errors import SourceError
from backup.model import Entry, EntryType

_HEADER = 2048
_GROWTH = 32
"""Which part of a frame is kept free for files that grow before they are read."""

Cut = Callable[[Entry], Iterator[int]]
"""Gives the lengths of a large file's chunks; raises ``SourceError`` where it cannot be read."""


class Member(NamedTuple):
    """One whole entry; ``hardlink_to`` is the path of which it is another name."""

    entry: Entry
    hardlink_to: bytes | None = None


class Range(NamedTuple):
    """A run of chunks of one large file, from ``offset`` on; the file's header comes before 0."""

    entry: Entry
    offset: int
    lengths: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where the run ends in the file."""
        return self.offset + sum(self.lengths)

    @property
    def is_last(self) -> bool:
        """Whether the file ends with it."""
        return self.stop == self.entry.size


Item = Member | Range


class FrameJob(NamedTuple):
    """What goes into one frame."""

    number: int
    items: tuple[Item, ...]


def plan_jobs(entries: Iterable[Entry], *, capacity: int, cut: Cut) -> Iterator[FrameJob]:
    """Yield the frame jobs for ``entries``, numbered from 0, lazily.

    Args:
        entries: All entries, in walking order.
        capacity: How many bytes a frame's piece may have.
        cut: Where to cut a large file.
    """
    planner = _Planner(capacity, cut)
    for entry in entries:
        yield from planner.take(entry)
    yield from planner.close()


class _Planner:
    def __init__(self, capacity: int, cut: Cut) -> None:
        self._capacity = capacity
        self._cut = cut
        self._items: list[Item] = []
        self._size = 0
        self._number = 0
        self._first_names: dict[tuple[int, int], Entry] = {}

    def take(self, entry: Entry) -> Iterator[FrameJob]:
        member = self._as_member(entry)
        cost = size_bound(member)
        if cost > self._capacity and entry.type is EntryType.FILE and member.hardlink_to is None:
            yield from self._take_large(member.entry, _header_bound(member))
            return
        if self._size + cost > self._capacity - self._capacity // _GROWTH:
            yield from self.close()
        self._items.append(member)
        self._size += cost

    def _as_member(self, entry: Entry) -> Member:
        """Return ``entry`` whole, or as another name of the hard-linked file that came before."""
        if entry.links <= 1 or entry.type is not EntryType.FILE:
            return Member(entry)
        first = self._first_names.setdefault((entry.filesystem, entry.inode), entry)
        if first is entry:
            return Member(entry)
        if (first.size, first.mtime_ns) == (entry.size, entry.mtime_ns):
            return Member(entry, first.path)
        # Meanwhile the file was changed, or its inode is that of another one.
        return Member(replace(entry, links=1))

    def _take_large(self, entry: Entry, header: int) -> Iterator[FrameJob]:
        yield from self.close()
        offset = 0
        lengths: list[int] = []
        size = header
        try:
            for length in self._cut(entry):
                if lengths and size + length + padding(entry.size) > self._capacity:
                    yield self._job(Range(entry, offset, tuple(lengths)))
                    offset, lengths, size = offset + sum(lengths), [], 0
                lengths.append(length)
                size += length
        except SourceError as error:
            if offset == 0:
                yield self._job(Member(replace(entry, error=error.message)))
                return
            # Its header stands in the archive: what is missing is filled up, and told.
            lengths = []
        yield from self._rest(entry, offset, lengths)

    def _rest(self, entry: Entry, offset: int, lengths: list[int]) -> Iterator[FrameJob]:
        if lengths:
            yield self._job(Range(entry, offset, tuple(lengths)))
            offset += sum(lengths)
        step = self._capacity - _HEADER
        while offset < entry.size:
            length = min(step, entry.size - offset)
            yield self._job(Range(entry, offset, (length,)))
            offset += length

    def _job(self, item: Item) -> FrameJob:
        job = FrameJob(self._number, (item,))
        self._number += 1
        return job

    def close(self) -> Iterator[FrameJob]:
        if self._items:
            yield FrameJob(self._number, tuple(self._items))
            self._number += 1
            self._items = []
            self._size = 0


def size_bound(item: Item) -> int:
    """Return a bound of the bytes that ``item`` takes in a piece, as it was listed."""
    if isinstance(item, Range):
        return _header_bound(item) + sum(item.lengths)
    entry = item.entry
    if item.hardlink_to is not None or entry.type is not EntryType.FILE:
        return _header_bound(item)
    return _header_bound(item) + entry.size + padding(entry.size)


def _header_bound(item: Item) -> int:
    entry = item.entry
    link = item.hardlink_to or b"" if isinstance(item, Member) else b""
    names = len(entry.path) + len(entry.target) + len(link)
    owners = 4 * (len(entry.user) + len(entry.group))
    return _HEADER + names + padding(names) + owners + padding(owners)
