"""Contents of entries, checked against their digests as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from backup.errors import DigestError
from backup.model import Entry, path_text
from backup.snapshot.chunk_list import digest_of_chunks
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.token import digest_of


def read_content(reader: SnapshotReader, entry: Entry) -> Iterator[memoryview]:
    """Yield the content of ``entry`` in order; raise after its last byte where it is wrong.

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
    if differs or (total != entry.size and not entry.error):
        raise DigestError(f"the content of {path_text(entry.path)} is not what was saved")
