"""Whether two contents are the same: by digests where these can be compared, else by reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from hashlib import sha256

from backup.model import Entry
from backup.snapshot.content import fill_holes, read_content
from backup.snapshot.reader import SnapshotReader

_BLOCK = 1024 * 1024

ReadAt = Callable[[int, int], bytes]
"""Gives ``length`` bytes of a file at ``offset``, fewer only at its end."""

NextData = Callable[[int], int]
"""Gives where a file has data again, at an offset or after it; all before that reads as zeros."""


def _anywhere(offset: int) -> int:
    return offset


class Verdict(StrEnum):
    """What is known of two contents."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def compare_stored(
    first: SnapshotReader, one: Entry, second: SnapshotReader, other: Entry
) -> Verdict:
    """Return whether two files of snapshots have the same content.

    Digests are comparable where both files were cut or neither, and have the same holes. Files cut
    differently have different digests of the same bytes: these are read.

    Raises:
        IntegrityError: They had to be read, and could not be.
    """
    if one.size != other.size:
        return Verdict.DIFFERENT
    if one.size and not (one.digest and other.digest):
        return Verdict.UNKNOWN  # one of them could not be read when it was saved
    is_cut = bool(one.chunk_lists)
    if is_cut == bool(other.chunk_lists) and one.data == other.data:
        if one.digest == other.digest:
            return Verdict.SAME
        if not is_cut:
            return Verdict.DIFFERENT
    same = _same_bytes(whole_content(first, one), whole_content(second, other))
    return Verdict.SAME if same else Verdict.DIFFERENT


def whole_content(reader: SnapshotReader, entry: Entry) -> Iterator[memoryview]:
    """Yield the content of a file, holes as zeros."""
    for piece in fill_holes(entry, read_content(reader, entry)):
        yield memoryview(piece)


def file_has_content(
    reader: SnapshotReader, entry: Entry, read_at: ReadAt, next_data: NextData = _anywhere
) -> bool:
    """Tell whether a file of the same size as ``entry`` has its content, reading the file once.

    Of the snapshot nothing is read but the chunk list of a large file.
    """
    if not entry.digest:
        return False
    stored = _Joined(_runs(entry, read_at))
    if entry.chunk_lists:
        for chunk in reader.chunks(entry):
            digest = sha256()
            for block in stored.take(chunk.extent.length):
                digest.update(block)
            if digest.digest() != chunk.digest:
                return False
    else:
        digest = sha256()
        for block in stored.take(entry.stored_size):
            digest.update(block)
        if digest.digest() != entry.digest:
            return False
    holes = _holes(entry)
    return all(_is_empty(read_at, next_data, offset, offset + length) for offset, length in holes)


class _Joined:
    """Takes as many bytes as are wanted from pieces of any length."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def take(self, length: int) -> Iterator[memoryview]:
        while length:
            if not self._left:
                self._left = next(self._pieces, memoryview(b""))
                if not self._left:
                    return
            piece, self._left = self._left[:length], self._left[length:]
            length -= len(piece)
            yield piece


def _runs(entry: Entry, read_at: ReadAt) -> Iterator[memoryview]:
    for offset, length in ((0, entry.size),) if entry.data is None else entry.data:
        for at in range(offset, offset + length, _BLOCK):
            yield memoryview(read_at(at, min(_BLOCK, offset + length - at)))


def _holes(entry: Entry) -> Iterator[tuple[int, int]]:
    at = 0
    for offset, length in ((0, entry.size),) if entry.data is None else entry.data:
        yield at, offset - at
        at = offset + length
    yield at, entry.size - at


def _is_empty(read_at: ReadAt, next_data: NextData, start: int, stop: int) -> bool:
    """Tell whether a file has zeros there; what it has as a hole as well is not read."""
    at = next_data(start)
    while at < stop:
        block = read_at(at, min(_BLOCK, stop - at))
        if block.count(0) != len(block):
            return False
        at = next_data(at + len(block)) if block else stop
    return True


def _same_bytes(first: Iterator[memoryview], second: Iterator[memoryview]) -> bool:
    other = _Joined(second)
    for piece in first:
        at = 0
        for twin in other.take(len(piece)):
            if piece[at : at + len(twin)] != twin:
                return False
            at += len(twin)
        if at != len(piece):
            return False
    return not any(True for _ in other.take(1))
