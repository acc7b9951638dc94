"""Choosing entries by path, opening only the parts of the index that can hold them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from backup.errors import IntegrityError, MalformedError
from backup.model import Entry, path_key, path_text
from backup.snapshot.index import Reference
from backup.snapshot.reader import SnapshotReader


class LostPart(NamedTuple):
    """A part of the index that cannot be read: from ``first`` up to, not including, ``behind``.

    ``behind`` is ``None`` where it reaches to the end of the snapshot. ``entries`` is how many
    there were.
    """

    first: bytes
    behind: bytes | None
    entries: int
    error: IntegrityError

    def may_hold(self, path: bytes) -> bool:
        """Return whether ``path``, or something below it, may have been in this part."""
        key = path_key(path)
        starts_before = self.behind is None or key < path_key(self.behind)
        return starts_before and key + b"\x01" > path_key(self.first)

    def __str__(self) -> str:
        """Return what is lost, for people."""
        to = "to the end" if self.behind is None else f"up to {path_text(self.behind)}"
        many = "1 entry is" if self.entries == 1 else f"{self.entries:,} entries are"
        part = f"the part of the index from {path_text(self.first)} {to} is damaged"
        return f"{part}: {many} lost ({self.error.message})"


OnLost = Callable[[LostPart], object]


class _Interval(NamedTuple):
    """Keys from ``start`` up to, not including, ``stop``."""

    start: bytes
    stop: bytes


_EVERYTHING = _Interval(b"", b"\xff" * 257)  # no name is as long


def select_entries(
    reader: SnapshotReader, paths: Sequence[bytes], *, on_lost: OnLost | None = None
) -> Iterator[Entry]:
    """Yield the entries of ``paths``, all below them, and the directories on the way to them.

    Args:
        reader: The snapshot.
        paths: Paths without leading ``/``; none, or the empty path, mean everything.
        on_lost: Is told of each part of the index that is damaged, which is then passed over;
            without it the first one raises.

    Raises:
        MalformedError: Entries are out of order, or not as many as the end says.
        IntegrityError: A part of the index is damaged, and nobody wants to be told of it.
    """
    everything = not paths or b"" in paths
    if everything and on_lost is None:
        yield from reader.entries()
        return
    lost: list[LostPart] = []

    def lose(part: LostPart) -> None:
        if on_lost is None:
            raise part.error
        lost.append(part)
        on_lost(part)

    wanted = [_EVERYTHING] if everything else _wanted(paths)
    starts = [interval.start for interval in wanted]
    last: bytes | None = None
    total = 0
    for entry in _entries(reader, wanted, lose):
        key = path_key(entry.path)
        if last is not None and key <= last:
            raise MalformedError(f"{path_text(entry.path)} is out of order in the index")
        last = key
        total += 1
        place = bisect_right(starts, key) - 1
        if place >= 0 and key < wanted[place].stop:
            yield entry
    total += sum(part.entries for part in lost)
    if everything and total != reader.record.counts.entries:
        raise MalformedError("the index has not as many entries as the end says")


def _entries(reader: SnapshotReader, wanted: Sequence[_Interval], lose: OnLost) -> Iterator[Entry]:
    for page, behind_page in _fitting(reader.record.pages, None, wanted):
        try:
            segments = reader.page(page)
        except IntegrityError as error:
            lose(LostPart(page.first, behind_page, page.entries, error))
            continue
        for segment, behind in _fitting(segments, behind_page, wanted):
            try:
                entries = reader.segment(segment)
            except IntegrityError as error:
                lose(LostPart(segment.first, behind, segment.entries, error))
            else:
                yield from entries


def select_segments(reader: SnapshotReader, paths: Sequence[bytes]) -> Iterator[Reference]:
    """Yield the segments that can hold what ``select_entries`` yields, and maybe more, in order."""
    if not paths or b"" in paths:
        yield from reader.segments()
        return
    wanted = _wanted(paths)
    for page, behind in _fitting(reader.record.pages, None, wanted):
        yield from (one for one, _ in _fitting(reader.page(page), behind, wanted))


def is_at_or_below(path: bytes, tops: Sequence[bytes]) -> bool:
    """Tell whether ``path`` is one of ``tops`` or lies below one; no tops mean everything."""
    return not tops or any(not top or path == top or path.startswith(top + b"/") for top in tops)


def _wanted(paths: Sequence[bytes]) -> list[_Interval]:
    return _merge([interval for path in paths for interval in _intervals(path)])


def _intervals(path: bytes) -> Iterator[_Interval]:
    """Yield the keys of ``path`` and what is below it, and of each directory above it."""
    key = path_key(path)
    yield _Interval(key, key + b"\x01")  # what is below begins with the key and a NUL
    while path:
        path = path.rpartition(b"/")[0]
        key = path_key(path)
        yield _Interval(key, key + b"\0")


def _merge(intervals: list[_Interval]) -> list[_Interval]:
    merged: list[_Interval] = []
    for interval in sorted(intervals):
        if merged and interval.start < merged[-1].stop:
            merged[-1] = _Interval(merged[-1].start, max(merged[-1].stop, interval.stop))
        else:
            merged.append(interval)
    return merged


def _fitting(
    references: Sequence[Reference], end: bytes | None, wanted: Sequence[_Interval]
) -> Iterator[tuple[Reference, bytes | None]]:
    """Yield those of the sorted ``references`` whose entries can lie in ``wanted``.

    Each comes with the path at which what is behind it begins: the next one's first, in the end
    ``end``, ``None`` where nothing follows.
    """
    for place, reference in enumerate(references):
        first = path_key(reference.first)
        behind = references[place + 1].first if place + 1 < len(references) else end
        after = None if behind is None else path_key(behind)
        if any(one.stop > first and (after is None or one.start < after) for one in wanted):
            yield reference, behind
