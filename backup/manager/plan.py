"""Planning the frames of an archive: which entries, or which part of a file, each one holds.

A frame job is 8 MiB of entries, or a run of chunks of one large file. Planning reads nothing but
what it is given; where a large file is to be cut is asked from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from backup.archive.records import BLOCK_BYTES, attribute_bound, sparse_map
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
    """A run of chunks of one large file, from ``offset`` on; the file's header comes before 0.

    ``offset`` counts what is stored of the file: of a sparse one, its runs of data joined.
    """

    entry: Entry
    offset: int
    lengths: tuple[int, ...]

    @property
    def stop(self) -> int:
        """Where the run ends in what is stored of the file."""
        return self.offset + sum(self.lengths)

    @property
    def is_last(self) -> bool:
        """Whether the file ends with it."""
        return self.stop == self.entry.stored_size


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
        self._room = capacity - capacity // _GROWTH
        self._cut = cut
        self._items: list[Item] = []
        self._size = 0
        self._number = 0
        self._first_names: dict[tuple[int, int], Entry] = {}

    def take(self, entry: Entry) -> Iterable[FrameJob]:
        """Plan ``entry``; return the jobs that are complete by now, mostly none."""
        member = self._as_member(entry)
        cost = size_bound(member)
        if cost > self._capacity and entry.type is EntryType.FILE and member.hardlink_to is None:
            return self._take_large(member.entry, header_bound(member))
        complete = self.close() if self._size + cost > self._room else ()
        self._items.append(member)
        self._size += cost
        return complete

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
                if lengths and size + length + padding(entry.stored_size) > self._capacity:
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
        while offset < entry.stored_size:
            length = min(step, entry.stored_size - offset)
            yield self._job(Range(entry, offset, (length,)))
            offset += length

    def _job(self, item: Item) -> FrameJob:
        job = FrameJob(self._number, (item,))
        self._number += 1
        return job

    def close(self) -> tuple[FrameJob, ...]:
        """Return the job of what has been collected, if there is anything."""
        if not self._items:
            return ()
        job = FrameJob(self._number, tuple(self._items))
        self._number += 1
        self._items = []
        self._size = 0
        return (job,)


def size_bound(item: Item) -> int:
    """Return a bound of the bytes that ``item`` takes in a piece, as it was listed."""
    bound = header_bound(item)
    if isinstance(item, Range):
        return bound + sum(item.lengths)
    entry = item.entry
    if entry.type is EntryType.FILE and item.hardlink_to is None:
        bound += _in_blocks(entry.stored_size)
    return bound


def header_bound(item: Item) -> int:
    """Return a bound of the bytes that come before the content of ``item``."""
    entry = item.entry
    names = len(entry.path) + len(entry.target)
    if isinstance(item, Member) and item.hardlink_to is not None:
        names += len(item.hardlink_to)
    owners = 4 * (len(entry.user) + len(entry.group))
    bound = _HEADER + _in_blocks(names) + _in_blocks(owners)
    if entry.xattrs:
        bound += attribute_bound(entry.xattrs)
    if entry.data is not None:  # the name stands in a record of its own
        bound += len(sparse_map(entry.data, entry.size)) + len(entry.path)
    return bound


def _in_blocks(size: int) -> int:
    """Return how many bytes whole blocks take that hold ``size`` bytes."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
