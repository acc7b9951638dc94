r"""Chunk lists: what a file larger than one frame consists of, in binary segments.

``"auto-backup chunks 1\n" | u16 count | count times a 16-byte snapshot id | rows`` with rows of
``SHA-256 (32) | u16 ordinal | u32 frame | u32 offset | u32 length``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from hashlib import sha256

from backup.errors import MalformedError
from backup.model import ID_BYTES, Chunk, Extent
from backup.snapshot.index import IdTable

MAGIC = b"auto-backup chunks 1\n"
_COUNT = struct.Struct(">H")
_ROW = struct.Struct(">32sHIII")
_SEGMENT_ROWS = 1024
_MOST_SEGMENT_ROWS = 4096


def cut_chunk_list(chunks: Iterable[Chunk], *, most_bytes: int) -> Iterator[list[Chunk]]:
    """Cut a chunk list into segments of about 1,024 rows, where a chunk's digest says so."""
    most = min(_MOST_SEGMENT_ROWS, (most_bytes - 64) // (_ROW.size + ID_BYTES))
    segment: list[Chunk] = []
    for chunk in chunks:
        says_cut = int.from_bytes(chunk.digest[:4], "big") % _SEGMENT_ROWS == 0
        if segment and (says_cut or len(segment) >= most):
            yield segment
            segment = []
        segment.append(chunk)
    if segment:
        yield segment


def encode_chunks(chunks: Iterable[Chunk]) -> bytes:
    """Return the bytes of one segment of a chunk list."""
    table = IdTable()
    rows = [
        _ROW.pack(digest, table.ordinal(at.snapshot), at.frame, at.offset, at.length)
        for digest, at in chunks
    ]
    ids = table.ids()
    return b"".join((MAGIC, _COUNT.pack(len(ids)), *ids, *rows))


def decode_chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of one segment, in the file's order.

    Raises:
        MalformedError: The bytes are not such a segment.
    """
    start = len(MAGIC) + _COUNT.size
    if not data.startswith(MAGIC) or len(data) < start:
        raise MalformedError("a chunk list does not begin as one")
    (count,) = _COUNT.unpack_from(data, len(MAGIC))
    body = start + count * ID_BYTES
    if body > len(data) or (len(data) - body) % _ROW.size:
        raise MalformedError("a chunk list has a wrong length")
    ids = [data[at : at + ID_BYTES] for at in range(start, body, ID_BYTES)]
    chunks = []
    for digest, ordinal, frame, offset, length in _ROW.iter_unpack(data[body:]):
        if ordinal >= count or length == 0:
            raise MalformedError("a row of a chunk list names nothing")
        chunks.append(Chunk(digest, Extent(ids[ordinal], frame, offset, length)))
    return chunks


def digest_of_chunks(digests: Iterable[bytes]) -> bytes:
    """Return what a large file has as digest: the SHA-256 over its chunks' digests."""
    whole = sha256()
    for digest in digests:
        whole.update(digest)
    return whole.digest()
