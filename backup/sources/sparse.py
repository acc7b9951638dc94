"""Sparse files: where their data lies, and reading it without the holes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from heapq import nlargest
from itertools import accumulate, pairwise

from backup.sources.reading import read_range

Runs = tuple[tuple[int, int], ...]

MOST_RUNS = 4096
"""How many runs of data an entry tells; of more, those with the smallest holes are joined."""

_MOST_LOOKS = 200_000
_BLOCK = 512


def may_have_holes(status: os.stat_result) -> bool:
    """Return whether the file takes less room than its size; compressed files do so, too."""
    return status.st_blocks * _BLOCK < status.st_size


def read_map(descriptor: int, size: int) -> Runs | None:
    """Return the runs of data of an open file of ``size`` bytes, or ``None`` where it has no holes.

    A file of more than 200,000 runs counts as data behind them. ``None`` also stands for a
    file system that cannot tell.

    Raises:
        OSError: The system cannot read where the holes are.
    """
    runs: list[tuple[int, int]] = []
    at = 0
    looks = 0
    try:
        while at < size:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            if start >= size:
                break
            looks += 1
            at = size if looks > _MOST_LOOKS else os.lseek(descriptor, start, os.SEEK_HOLE)
            at = min(at, size)
            if at > start:  # else the data has gone between the two calls
                runs.append((start, at - start))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        if error.errno != errno.ENXIO:  # which says that there is no more data
            raise
    if runs == [(0, size)]:
        return None
    return merge_runs(runs, MOST_RUNS)


def merge_runs(runs: Sequence[tuple[int, int]], most: int) -> Runs:
    """Return ``runs`` as at most ``most`` (at least one), joined over the smallest holes between.

    Runs that touch each other are always joined.
    """
    gaps = [there - (at + length) for (at, length), (there, _) in pairwise(runs)]
    open_gaps = [place for place, gap in enumerate(gaps) if gap > 0]
    if len(open_gaps) >= most:
        # Of equally large holes those that come first stay.
        open_gaps = sorted(nlargest(most - 1, open_gaps, key=lambda place: (gaps[place], -place)))
    if not runs:
        return ()
    firsts = [0, *(place + 1 for place in open_gaps)]
    lasts = [*open_gaps, len(runs) - 1]
    return tuple(
        (runs[first][0], sum(runs[last]) - runs[first][0])
        for first, last in zip(firsts, lasts, strict=True)
    )


def read_stored(descriptor: int, data: Runs | None, offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset`` on of what a snapshot stores of a file.

    Args:
        descriptor: The open file.
        data: Its runs of data, which count as if there were nothing between them; ``None`` for all.
        offset: Where to begin, in the runs joined.
        length: How many bytes.

    Returns:
        The bytes; fewer where a file without holes ends before. What is missing of a run in the
        middle stands as zeros, so that what follows keeps its place.

    Raises:
        OSError: The file cannot be read.
    """
    if data is None:
        return read_range(descriptor, offset, length)
    return b"".join(
        read_range(descriptor, at, size).ljust(size, b"\0")
        for at, size in _parts(data, offset, offset + length)
    )


def _parts(data: Runs, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield what lies between two places of the joined runs, as (offset in the file, length)."""
    ends = accumulate(length for _, length in data)
    for (at, length), end in zip(data, ends, strict=True):
        first = max(start, end - length)
        last = min(stop, end)
        if first < last:
            yield at + first - (end - length), last - first


def next_data(descriptor: int, offset: int) -> int:
    """Return where an open file has data again, at ``offset`` or after it.

    Without any further data that is beyond all files; where the file system knows no holes, it is
    ``offset`` itself.
    """
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return sys.maxsize
        if error.errno == errno.EINVAL:
            return offset
        raise
