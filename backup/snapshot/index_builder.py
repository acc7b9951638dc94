"""Building an index while the archive is being written, without keeping all entries.

Segments are compressed as soon as they are complete; only those with a large file wait for its
chunk list, which has its place behind the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from backup.model import Chunk, Entry, ListRef
from backup.snapshot.chunk_list import digest_of_chunks
from backup.snapshot.frame import Section
from backup.snapshot.index import (
    Reference,
    cut_pages,
    cut_segments,
    encode_page,
    encode_segment,
)
from backup.snapshot.token import digest_of
from backup.snapshot.writer import SnapshotWriter


class LargeFile(msgspec.Struct, frozen=True, kw_only=True):
    """An entry whose content is told by a chunk list that has not been written yet."""

    entry: Entry
    chunks: tuple[Chunk, ...]


class _Segment(msgspec.Struct, kw_only=True):
    """A finished segment, compressed, or still its entries."""

    entries: int
    first: bytes
    digest: bytes = b""
    plain: int = 0
    piece: bytes = b""
    waiting: Sequence[Entry] = ()


class IndexBuilder:
    """Takes all entries in order, and writes chunk lists and index behind the archive.

    Args:
        writer: Where they go.
        known: Segments and pages of earlier snapshots by their digests: what is among them is
            referred to and not written again.
    """

    def __init__(
        self, writer: SnapshotWriter, known: Mapping[bytes, Reference] | None = None
    ) -> None:
        self._writer = writer
        self._known = known or {}
        self._room = writer.capacity // 2
        self._segments: list[_Segment] = []
        self._large: dict[bytes, tuple[Chunk, ...]] = {}
        self._lists: dict[bytes, tuple[ListRef, ...]] = {}

    def take(self, entries: Iterable[Entry | LargeFile]) -> None:
        """Take all entries, sorted by ``path_key``; may only be called once."""
        plain = (self._unwrap(entry) for entry in entries)
        for part in cut_segments(plain, most_bytes=self._room):
            segment = _Segment(entries=len(part), first=part[0].path)
            if any(entry.path in self._large for entry in part):
                segment.waiting = part
            else:
                self._compress(segment, part)
            self._segments.append(segment)

    def write(self) -> tuple[Reference, ...]:
        """Write chunk lists, segments and pages; return the pages, for the end."""
        for segment in self._segments:
            if segment.waiting:
                self._compress(segment, [self._with_chunks(entry) for entry in segment.waiting])
                segment.waiting = ()
        references = [self._write_segment(segment) for segment in self._segments]
        return tuple(
            self._write_page(page) for page in cut_pages(references, most_bytes=self._room)
        )

    def _unwrap(self, entry: Entry | LargeFile) -> Entry:
        if isinstance(entry, Entry):
            return entry
        self._large[entry.entry.path] = entry.chunks
        return entry.entry

    def _with_chunks(self, entry: Entry) -> Entry:
        chunks = self._large.get(entry.path)
        if chunks is None:
            return entry
        digest = digest_of_chunks(chunk.digest for chunk in chunks)
        if digest not in self._lists:  # another name of the file, or the same content, may have it
            self._lists[digest] = self._writer.add_chunk_list(chunks)
        return msgspec.structs.replace(entry, chunk_lists=self._lists[digest], digest=digest)

    def _compress(self, segment: _Segment, entries: Sequence[Entry]) -> None:
        data = encode_segment(entries)
        segment.digest = digest_of(data)
        if segment.digest not in self._known:
            segment.piece = self._writer.make_piece(data)
            segment.plain = len(data)

    def _write_segment(self, segment: _Segment) -> Reference:
        known = self._known.get(segment.digest)
        if known is not None:
            return known
        number = self._writer.add_piece(Section.INDEX, segment.piece, segment.plain)
        segment.piece = b""
        core = self._writer.core
        return Reference(core.id, number, segment.digest, segment.entries, segment.first)

    def _write_page(self, page: Sequence[Reference]) -> Reference:
        data = encode_page(page)
        digest = digest_of(data)
        if digest in self._known:
            return self._known[digest]
        number = self._writer.add_plain(Section.INDEX, data)
        entries = sum(one.entries for one in page)
        return Reference(self._writer.core.id, number, digest, entries, page[0].first)
