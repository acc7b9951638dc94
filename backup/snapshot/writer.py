"""Writing a snapshot: bytes out, in one pass, nothing ever rewritten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backup.errors import IntegrityError, MalformedError
from backup.model import ArchiveType, Chunk, ListRef
from backup.snapshot.chunk_list import cut_chunk_list, encode_chunks
from backup.snapshot.compression import (
    check_level,
    compress,
    holds,
    metadata_archive,
)
from backup.snapshot.end import EndRecord, encode_end, encode_footer
from backup.snapshot.frame import (
    LENGTH,
    FrameKeys,
    FrameRow,
    SealedFrame,
    Section,
    piece_capacity,
)
from backup.snapshot.header import Core, Slot, encode_header, encode_keys_file
from backup.snapshot.signing import HostKey
from backup.snapshot.token import digest_of, token_tag

END_OF_ARCHIVE = bytes(1024)


def section_archive(archive: ArchiveType, section: Section) -> ArchiveType:
    """Return how pieces of ``section`` are compressed in a snapshot of ``archive``."""
    return archive if section is Section.ARCHIVE else metadata_archive(archive)


def make_piece(
    archive: ArchiveType, level: int, plain: bytes | bytearray, length: int | None = None
) -> bytes:
    """Compress ``plain``, and prove that it comes back before anybody relies on it.

    Args:
        archive: How to compress it.
        level: How hard.
        plain: What to compress.
        length: How many bytes of it, ``None`` for all.

    Raises:
        IntegrityError: What came back differs: memory or a library is at fault.
    """
    piece = compress(archive, level, memoryview(plain)[:length])
    if archive is not ArchiveType.TAR and not holds(archive, piece, plain, length):
        raise IntegrityError(
            f"a {archive} piece did not decompress to what went in",
            hint="this points to faulty memory; nothing has been stored",
        )
    return piece


class SnapshotWriter:
    """Writes one snapshot to ``write``: header, frames in their order, end, footer.

    Args:
        write: Takes all bytes that it is given.
        core: The snapshot's core.
        slots: One per recipient.
        data_key: The 32 random bytes that the slots wrap.
        host_key: What to sign with; ``None`` leaves the snapshot unsigned, which readers refuse.
        level: Compression level of index, chunk lists and end; ``None`` for the default.
    """

    def __init__(
        self,
        write: Callable[[bytes | bytearray | memoryview], object],
        core: Core,
        slots: Sequence[Slot],
        data_key: bytes,
        *,
        host_key: HostKey | None,
        level: int | None = None,
    ) -> None:
        self.core = core
        self.keys = FrameKeys(core, data_key)
        self.size = 0
        self._slots = tuple(slots)
        self._data_key = data_key
        self._host_key = host_key
        self._archive = metadata_archive(core.archive)
        self._level = check_level(self._archive, level if self._archive is core.archive else None)
        self._write_bytes = write
        self._rows: list[FrameRow] = []
        self._archive_ended = False
        self._write(encode_header(core, self._slots, data_key))

    @property
    def next_number(self) -> int:
        """The number of the next frame."""
        return len(self._rows)

    @property
    def capacity(self) -> int:
        """How many uncompressed bytes a piece may have."""
        return piece_capacity(self.core.archive, self.core.cap)

    def keys_file(self) -> bytes:
        """Return the bytes of the first ``.enc.keys`` file."""
        return encode_keys_file(self.core, self._slots, self._data_key, 0)

    def add(self, frame: SealedFrame) -> None:
        """Write a frame that was sealed for the next number."""
        if frame.number != self.next_number:
            raise MalformedError(f"frame {frame.number} comes when {self.next_number} is due")
        if self._archive_ended and frame.section is Section.ARCHIVE:
            raise MalformedError("nothing follows the end of the archive")
        tag = token_tag(frame.token)
        row = FrameRow(frame.section, self.size, len(frame.token), frame.plain, tag)
        self._write_frame(frame)
        self._rows.append(row)

    def make_piece(self, plain: bytes) -> bytes:
        """Return ``plain`` compressed as index, chunk lists and end are."""
        return make_piece(self._archive, self._level, plain)

    def add_piece(self, section: Section, piece: bytes, plain: int) -> int:
        """Seal and write a compressed ``piece`` of ``plain`` bytes; return its frame's number."""
        number = self.next_number
        self.add(self.keys.seal(section, number, piece, plain))
        return number

    def add_plain(self, section: Section, plain: bytes) -> int:
        """Compress, check, seal and write ``plain`` as one frame; return its number."""
        return self.add_piece(section, self.make_piece(plain), len(plain))

    def end_archive(self) -> None:
        """Write the end-of-archive, which is a frame of its own, the last of the archive."""
        archive = self.core.archive
        piece = make_piece(archive, check_level(archive, None), END_OF_ARCHIVE)
        number = self.next_number
        self.add(self.keys.seal(Section.ARCHIVE, number, piece, len(END_OF_ARCHIVE)))
        self._archive_ended = True

    def add_chunk_list(self, chunks: Iterable[Chunk]) -> tuple[ListRef, ...]:
        """Write the chunk list of one file; return what its entry names."""
        references = []
        for segment in cut_chunk_list(chunks, most_bytes=self.capacity):
            data = encode_chunks(segment)
            number = self.add_plain(Section.CHUNKS, data)
            references.append(ListRef(self.core.id, number, digest_of(data), len(segment)))
        return tuple(references)

    def finish(self, record: EndRecord) -> None:
        """Write the end and the footer; nothing may follow."""
        if not self._archive_ended:
            raise MalformedError("a snapshot has an end-of-archive")
        body = encode_end(self.core.id, record, self._rows)
        block = b"" if self._host_key is None else self._host_key.sign(self.core, body)
        whole = memoryview(body + block)
        end_offset = self.size
        for number, start in enumerate(range(0, len(whole), self.capacity), self.next_number):
            part = bytes(whole[start : start + self.capacity])
            piece = self.make_piece(part)
            self._write_frame(self.keys.seal(Section.END, number, piece, len(part)))
        self._write(encode_footer(end_offset))

    def _write_frame(self, frame: SealedFrame) -> None:
        self._write(LENGTH.pack(len(frame.token)))
        self._write(frame.token)

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        self._write_bytes(data)
        self.size += len(data)
