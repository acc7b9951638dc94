"""Building an index while the archive is being written, without keeping all entries.

Segments are compressed as soon as they are complete; only those with a large file wait for its
chunk list, which has its place behind the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from backup.model import Chunk, Entry, ListRef
from backup.snapshot.chunk_list import digest_of_chunks
from backup.snapshot.frame import Section
from backup.snapshot.index import (
    MOST_SEGMENT_ENTRIES,
    Reference,
    cut_pages,
    encode_items,
    encode_page,
    ends_segment,
    line_bound,
)
from backup.snapshot.token import digest_of
from backup.snapshot.writer import SnapshotWriter


class LargeFile(msgspec.Struct, frozen=True, kw_only=True):
    """An entry whose content is told by a chunk list that has not been written yet."""

    entry: Entry
    chunks: tuple[Chunk, ...]


class _Segment(msgspec.Struct, kw_only=True):
    """A segment: growing or waiting as its items, or finished and compressed."""

    first: bytes
    entries: int = 0
    room: int = 0
    items: list[bytes | Entry] = []
    has_content: bool = False
    digest: bytes = b""
    plain: int = 0
    piece: bytes = b""


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
        self._growing: _Segment | None = None
        self._large: dict[bytes, tuple[Chunk, ...]] = {}
        self._lists: dict[bytes, tuple[ListRef, ...]] = {}

    def take(self, entries: Iterable[Entry | LargeFile]) -> None:
        """Take entries, sorted by ``path_key``, which go on where the last ones ended."""
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry | LargeFile) -> None:
        """Take the next entry."""
        if isinstance(entry, LargeFile):
            self._large[entry.entry.path] = entry.chunks
            entry = entry.entry
        cut = ends_segment(entry.path)
        self._append(entry, line_bound(entry), entry.path, cut=cut, has_content=False)

    def add_lines(
        self,
        lines: Sequence[bytes],
        content: bytes | bytearray,
        cuts: Sequence[int],
        paths: Sequence[bytes],
    ) -> None:
        """Take the next entries, as lines in which this snapshot is the first of the ids.

        Args:
            lines: The lines, without their newlines.
            content: For each of them 1 where it names this snapshot, else 0.
            cuts: The places before which the segment ends, by the hash of the path.
            paths: Their paths.
        """
        for start, stop in pairwise(sorted({0, *cuts, len(lines)})):
            part = lines[start:stop]
            has_content = 1 in content[start:stop]
            if start in cuts:
                self._close()
            if self._fits(len(part), size := sum(map(len, part)) + len(part)):
                segment = self._open(paths[start])
                segment.items += part
                segment.entries += len(part)
                segment.room -= size
                segment.has_content |= has_content
                continue
            for place in range(start, stop):
                line = lines[place]
                self._append(line, len(line) + 1, paths[place], cut=False, has_content=has_content)

    def _append(
        self, item: bytes | Entry, size: int, path: bytes, *, cut: bool, has_content: bool
    ) -> None:
        if cut or not self._fits(1, size):
            self._close()
        segment = self._open(path)
        segment.items.append(item)
        segment.entries += 1
        segment.room -= size
        segment.has_content |= has_content

    def _open(self, path: bytes) -> _Segment:
        if self._growing is None:
            self._growing = _Segment(first=path, room=self._room)
        return self._growing

    def _fits(self, entries: int, size: int) -> bool:
        have, room = 0, self._room
        if self._growing is not None:
            have, room = self._growing.entries, self._growing.room
        return size <= room and have + entries <= MOST_SEGMENT_ENTRIES

    def _close(self) -> None:
        """End the segment that grows; it is compressed at once unless it waits for chunk lists."""
        segment, self._growing = self._growing, None
        if segment is None:
            return
        self._segments.append(segment)
        if not any(isinstance(item, Entry) and item.path in self._large for item in segment.items):
            self._compress(segment)

    def write(self) -> tuple[Reference, ...]:
        """Write chunk lists, segments and pages; return the pages, for the end."""
        self._close()
        for segment in self._segments:
            if segment.items:
                segment.items = [self._with_chunks(item) for item in segment.items]
                self._compress(segment)
        references = [self._write_segment(segment) for segment in self._segments]
        return tuple(
            self._write_page(page) for page in cut_pages(references, most_bytes=self._room)
        )

    def _with_chunks(self, entry: bytes | Entry) -> bytes | Entry:
        chunks = None if isinstance(entry, bytes) else self._large.get(entry.path)
        if chunks is None or isinstance(entry, bytes):
            return entry
        digest = digest_of_chunks(chunk.digest for chunk in chunks)
        if digest not in self._lists:  # another name of the file, or the same content, may have it
            self._lists[digest] = self._writer.add_chunk_list(chunks)
        return msgspec.structs.replace(entry, chunk_lists=self._lists[digest], digest=digest)

    def _compress(self, segment: _Segment) -> None:
        own = (self._writer.core.id,) if segment.has_content else ()
        data = encode_items(own, segment.items)
        segment.items = []
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
