"""Contents of entries, checked against their digests as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256

from backup.errors import DigestError
from backup.model import Entry, path_text
from backup.snapshot.chunk_list import digest_of_chunks
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.token import digest_of

_HOLE = bytes(1024 * 1024)


def read_content(reader: SnapshotReader, entry: Entry) -> Iterator[memoryview]:
    """Yield what is stored of ``entry`` in order; raise after its last byte where it is wrong.

    Of a sparse file these are its runs of data, joined; ``fill_holes`` puts the rest in between.
    Who writes what this yields must not keep it unless the iterator ends without an error.

    Raises:
        DigestError: The bytes are not those that were saved.
        IntegrityError: They cannot be read.
    """
    if entry.chunk_lists:
        yield from _chunked(reader, entry)
        return
    digest = sha256()
    for extent in entry.extents:
        data = reader.extent_bytes(extent)
        digest.update(data)
        yield data
    if entry.digest and digest.digest() != entry.digest:
        raise DigestError(f"the content of {path_text(entry.path)} is not what was saved")


def fill_holes(entry: Entry, stored: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield the whole content of ``entry``, given what is stored of it; holes as zeros."""
    if entry.data is None:
        yield from stored
        return
    at = 0
    for offset, piece in place_runs(entry.data, stored):
        yield from _zeros(offset - at)
        yield piece
        at = offset + len(piece)
    yield from _zeros(entry.size - at)


def place_runs(
    data: Iterable[tuple[int, int]], stored: Iterable[bytes | memoryview]
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield each part of ``stored`` with its offset in a file whose runs of data are ``data``.

    Raises:
        DigestError: There is more than the runs have room for.
    """
    runs = iter(data)
    at = left = 0
    for piece in stored:
        rest = piece
        while len(rest):
            while not left:
                at, left = next(runs, (-1, 0))
                if at < 0:
                    raise DigestError("there are more bytes than a sparse file has data")
            part, rest = rest[:left], rest[left:]
            yield at, part
            at += len(part)
            left -= len(part)


def pieces_in_a_row(
    pieces: Iterable[bytes | memoryview],
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield each of ``pieces`` with its offset in a file without holes."""
    at = 0
    for piece in pieces:
        yield at, piece
        at += len(piece)


def _zeros(length: int) -> Iterator[bytes]:
    while length > 0:
        yield _HOLE[:length]
        length -= len(_HOLE)


def _chunked(reader: SnapshotReader, entry: Entry) -> Iterator[memoryview]:
    digests = []
    total = 0
    for chunk in reader.chunks(entry):
        data = reader.extent_bytes(chunk.extent)
        if digest_of(data) != chunk.digest:
            raise DigestError(f"a chunk of {path_text(entry.path)} is not what was saved")
        digests.append(chunk.digest)
        total += len(data)
        yield data
    differs = bool(entry.digest) and digest_of_chunks(digests) != entry.digest
    if differs or (total != entry.stored_size and not entry.error):
        raise DigestError(f"the content of {path_text(entry.path)} is not what was saved")
