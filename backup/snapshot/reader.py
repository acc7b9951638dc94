"""Reading a snapshot: entries, pieces and contents, each authenticated before it is believed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

from backup.errors import (
    DigestError,
    FrameError,
    FrameOutOfPlaceError,
    IntegrityError,
    MalformedError,
    MissingSnapshotError,
)
from backup.model import Chunk, Entry, Extent, path_key, path_text
from backup.snapshot.chunk_list import decode_chunks
from backup.snapshot.compression import decompress
from backup.snapshot.end import EndRecord, Referred
from backup.snapshot.frame import LENGTH, FrameKeys, FrameRow, Section
from backup.snapshot.header import Core, Header
from backup.snapshot.index import Reference, decode_page, decode_segment
from backup.snapshot.opening import (
    OpenedHeader,
    authenticate_header,
    authenticate_with,
    check_referred,
    read_end,
)
from backup.snapshot.recipients import Identity
from backup.snapshot.source import ByteSource, read_exactly
from backup.snapshot.token import TAG_BYTES, digest_of, token_tag
from backup.snapshot.writer import END_OF_ARCHIVE, section_archive

_KEPT_PIECES = 2
_KEPT_SEGMENTS = 3

FindSource = Callable[[Referred], "ByteSource | None"]
"""Gives the file of a snapshot that is referred to, or ``None`` where it is absent."""


def find_nothing(_: Referred) -> None:
    """Find no snapshot: enough for those that refer to none."""
    return


def _tell_nobody(_: int) -> None:
    return


class SnapshotReader:
    """One snapshot, opened.

    Everything it returns has been authenticated; every method may raise ``IntegrityError``.
    """

    def __init__(
        self,
        source: ByteSource,
        opened: OpenedHeader,
        *,
        identities: Sequence[Identity] = (),
        trusted: Collection[bytes] | None = None,
        find: FindSource = find_nothing,
    ) -> None:
        self.source = source
        self.header: Header = opened.header
        self.core: Core = opened.header.core
        self.data_key = opened.data_key
        self.header_intact = opened.length is not None
        self._keys = FrameKeys(self.core, opened.data_key)
        end = read_end(source, self._keys, opened.length, trusted)
        self.record: EndRecord = end.record
        self.rows: list[FrameRow] = end.rows
        self.signer: bytes = end.signer
        self.end_offset = end.end_offset
        self._identities = identities
        self._trusted = trusted
        self._find = find
        self._others: dict[bytes, SnapshotReader] = {}
        self.on_frame: Callable[[int], object] = _tell_nobody
        """Is told the number of every frame of this file before it is opened."""
        self._pieces: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._segments: OrderedDict[Reference, list[Entry]] = OrderedDict()

    def frame(self, number: int) -> memoryview:
        """Return the token of frame ``number``, read but not opened."""
        row = self.rows[number]
        raw = read_exactly(self.source, row.offset, LENGTH.size + row.length, f"frame {number}")
        if LENGTH.unpack_from(raw)[0] != row.length:
            self._refuse_reordered()
            raise FrameError(f"the length of frame {number} is damaged")
        return memoryview(raw)[LENGTH.size :]

    def piece(self, section: Section, number: int) -> bytes:
        """Return the uncompressed piece of frame ``number`` of this file."""
        row = self.row(section, number)
        self.on_frame(number)
        compressed = self.compressed_piece(section, number)
        archive = section_archive(self.core.archive, section)
        return decompress(archive, compressed, plain_length=row.plain)

    def row(self, section: Section, number: int) -> FrameRow:
        """Return what the end records of frame ``number``, which must be one of ``section``."""
        if number >= len(self.rows) or self.rows[number].section is not section:
            raise MalformedError(f"frame {number} is not of the section that was asked for")
        return self.rows[number]

    def compressed_piece(self, section: Section, number: int) -> memoryview:
        """Return the piece of frame ``number`` as it was sealed: one complete stream."""
        token = self.frame(number)
        tag = self.rows[number].tag
        try:
            return self._keys.open(section, number, token, tag=tag)
        except FrameError:
            self._refuse_moved(number, token)
            raise

    def _refuse_moved(self, number: int, token: memoryview) -> None:
        place = self._places.get(token_tag(token), number)
        if place != number:
            raise FrameOutOfPlaceError(f"frame {place} stands in the place of frame {number}")

    @cached_property
    def _places(self) -> dict[bytes, int]:
        """The numbers of the frames by their tags; only damaged files ask."""
        return {row.tag: place for place, row in enumerate(self.rows)}

    def _refuse_reordered(self) -> None:
        """Raise where the frames of the file, told by their tags, have another order."""
        present = [(n, row) for n, row in enumerate(self.rows) if row.section is not Section.ABSENT]
        at = present[0][1].offset
        for number, _ in present:
            length = int.from_bytes(self.source.read_at(at, LENGTH.size), "big")
            at += LENGTH.size + length
            found = self._places.get(self.source.read_at(at - TAG_BYTES, TAG_BYTES))
            if found is None:
                return
            if found != number:
                raise FrameOutOfPlaceError(f"frame {found} stands in the place of frame {number}")

    def check_archive_end(self) -> None:
        """Raise ``MalformedError`` unless the last archive frame is the end-of-archive, alone."""
        places = [n for n, row in enumerate(self.rows) if row.section is Section.ARCHIVE]
        if not places or self.piece(Section.ARCHIVE, places[-1]) != END_OF_ARCHIVE:
            raise MalformedError("the archive does not end as it must")

    def piece_of(self, snapshot: bytes, section: Section, number: int) -> bytes:
        """Return the piece of a frame of this snapshot or of one that it refers to."""
        key = (snapshot, number)
        piece = self._pieces.get(key)
        if piece is None or section is not Section.ARCHIVE:
            piece = self.snapshot(snapshot).piece(section, number)
            if section is Section.ARCHIVE:
                self._pieces[key] = piece
                if len(self._pieces) > _KEPT_PIECES:
                    self._pieces.popitem(last=False)
        return piece

    def snapshot(self, snapshot: bytes) -> SnapshotReader:
        """Return the reader of a snapshot that this one names.

        Raises:
            MissingSnapshotError: It is absent.
            MalformedError: The end does not name it.
        """
        if snapshot == self.core.id:
            return self
        if snapshot not in self._others:
            self._others[snapshot] = self._open_other(snapshot)
        return self._others[snapshot]

    def _open_other(self, snapshot: bytes) -> SnapshotReader:
        named = [one for one in self.record.referred if one.id == snapshot]
        if not named:
            raise MalformedError(f"snapshot {snapshot.hex()} is used, but the end does not name it")
        source = self._find(named[0])
        if source is None:
            raise MissingSnapshotError(
                f"snapshot {snapshot.hex()} is missing, and this one refers to it"
            )
        if named[0].data_key is not None:
            opened = authenticate_with(source, named[0])
        else:
            opened = authenticate_header(source, self._identities, None)
        check_referred(source, opened.header, named[0])
        return SnapshotReader(
            source,
            opened,
            identities=self._identities,
            trusted=self._trusted,
            find=self._find,
        )

    def segments(self) -> Iterator[Reference]:
        """Yield the references of all index segments, in order."""
        for page in self.record.pages:
            yield from self.page(page)

    def page(self, reference: Reference) -> list[Reference]:
        """Return the segments that a page names."""
        segments = decode_page(self._referred(reference))
        total = sum(one.entries for one in segments)
        if not segments or total != reference.entries or segments[0].first != reference.first:
            raise MalformedError("an index page does not hold what the end says")
        return segments

    def segment(self, reference: Reference) -> list[Entry]:
        """Return the entries of one segment; who asks again soon gets the same ones."""
        known = self._segments.get(reference)
        if known is not None:
            return known
        entries = decode_segment(self._referred(reference))
        fits = len(entries) == reference.entries and entries[0].path == reference.first
        if not fits:
            raise MalformedError("an index segment does not hold what its page says")
        self._segments[reference] = entries
        if len(self._segments) > _KEPT_SEGMENTS:
            self._segments.popitem(last=False)
        return entries

    def _referred(self, reference: Reference) -> bytes:
        data = self.piece_of(reference.snapshot, Section.INDEX, reference.frame)
        if digest_of(data) != reference.digest:
            raise DigestError("a part of the index is not what refers to it says")
        return data

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, in the order of ``path_key``."""
        last: bytes | None = None
        total = 0
        for reference in self.segments():
            for entry in self.segment(reference):
                key = path_key(entry.path)
                if last is not None and key <= last:
                    raise MalformedError(f"{path_text(entry.path)} is out of order in the index")
                last = key
                total += 1
                yield entry
        if total != self.record.counts.entries:
            raise MalformedError("the index has not as many entries as the end says")

    def chunks(self, entry: Entry) -> Iterator[Chunk]:
        """Yield the chunks of a large file, in order."""
        for reference in entry.chunk_lists:
            data = self.piece_of(reference.snapshot, Section.CHUNKS, reference.frame)
            if digest_of(data) != reference.digest:
                raise DigestError(f"the chunk list of {path_text(entry.path)} is not what it was")
            chunks = decode_chunks(data)
            if len(chunks) != reference.rows:
                raise MalformedError("a chunk list has not as many rows as its entry says")
            yield from chunks

    def extent_bytes(self, extent: Extent) -> memoryview:
        """Return the bytes of one extent."""
        piece = self.piece_of(extent.snapshot, Section.ARCHIVE, extent.frame)
        end = extent.offset + extent.length
        if end > len(piece):
            raise MalformedError("an extent reaches beyond its frame")
        return memoryview(piece)[extent.offset : end]


def open_snapshot(
    source: ByteSource,
    identities: Sequence[Identity],
    *,
    keys_file: bytes | None = None,
    trusted: Collection[bytes] | None = None,
    find: FindSource = find_nothing,
) -> SnapshotReader:
    """Open the snapshot in ``source``.

    Args:
        source: The ``.enc`` file.
        identities: What may open it.
        keys_file: The bytes of its newest ``.enc.keys`` file, where there is one.
        trusted: Public keys of trusted hosts; ``None`` accepts any host, but no missing signature.
        find: Gives the files of snapshots that are referred to.

    Raises:
        SecretKeyError: No key opens it.
        IntegrityError: It is not what was written; the class says in which way.
    """
    opened = authenticate_header(source, identities, keys_file)
    try:
        return SnapshotReader(source, opened, identities=identities, trusted=trusted, find=find)
    except IntegrityError as error:
        error.message = f"{source.name}: {error.message}"
        error.args = (error.message,)
        raise
