"""Choosing entries by path, opening only the parts of the index that can hold them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from backup.model import Entry, path_key
from backup.snapshot.index import Reference
from backup.snapshot.reader import SnapshotReader


class _Interval(NamedTuple):
    """Keys from ``start`` up to, not including, ``stop``."""

    start: bytes
    stop: bytes


def select_entries(reader: SnapshotReader, paths: Sequence[bytes]) -> Iterator[Entry]:
    """Yield the entries of ``paths``, all below them, and the directories on the way to them.

    Args:
        reader: The snapshot.
        paths: Paths without leading ``/``; none, or the empty path, mean everything.
    """
    if not paths or b"" in paths:
        yield from reader.entries()
        return
    wanted = _merge([interval for path in paths for interval in _intervals(path)])
    starts = [interval.start for interval in wanted]
    for page in _fitting(reader.record.pages, wanted):
        for segment in _fitting(reader.page(page), wanted):
            for entry in reader.segment(segment):
                key = path_key(entry.path)
                place = bisect_right(starts, key) - 1
                if place >= 0 and key < wanted[place].stop:
                    yield entry


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


def _fitting(references: Sequence[Reference], wanted: Sequence[_Interval]) -> Iterator[Reference]:
    """Yield those of the sorted ``references`` whose entries can lie in ``wanted``."""
    for place, reference in enumerate(references):
        first = path_key(reference.first)
        behind = references[place + 1].first if place + 1 < len(references) else None
        after = None if behind is None else path_key(behind)
        if any(one.stop > first and (after is None or one.start < after) for one in wanted):
            yield reference
