"""Plain zip archives: what their directory says, held to what stands beside the contents."""

from __future__ import annotations

import bz2
import lzma
import os
import stat
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from backup.errors import DigestError, IntegrityError, MalformedError, RestoreError, TruncatedError
from backup.model import Entry, EntryType, Extent, path_text
from backup.plain.arranging import Budget, Limits, Member, Names, arrange
from backup.plain.formats import Format
from backup.plain.reading_directory import (
    ZipRecord,
    find_directory,
    parse_extra,
    read_directory,
    wide,
)
from backup.plain.reading_stream import Inflater
from backup.snapshot.source import ByteSource, read_exactly

if TYPE_CHECKING or sys.version_info < (3, 14):
    from backports import zstd
else:
    from compression import zstd

_LOCAL = struct.Struct("<4s5H3I2H")
_LOCAL_MAGIC = b"PK\x03\x04"
_DESCRIPTOR_MAGIC = b"PK\x07\x08"
_STREAMED, _UTF8 = 1 << 3, 1 << 11
_SAME_FLAGS = 1 | _UTF8
_STEP = 256 * 1024
_LONGEST_TARGET = 65_536
_STORED, _DEFLATED, _BZIP2, _LZMA, _ZSTD = 0, 8, 12, 14, 93
_METHODS = frozenset({_STORED, _DEFLATED, _BZIP2, _LZMA, _ZSTD})
_LZMA_MEMORY = 192 * 2**20
_ZSTD_WINDOW_LOG = 27
_ERRORS = (lzma.LZMAError, zlib.error, zstd.ZstdError, OSError, EOFError, ValueError)
_KINDS = {
    0: EntryType.FILE,
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFIFO: EntryType.FILE,  # whose content was read from a pipe
    stat.S_IFLNK: EntryType.SYMLINK,
}


class ZipArchive:
    """A zip archive, whose directory has been read; see ``PlainArchive``.

    Raises:
        IntegrityError: The directory is damaged.
    """

    def __init__(self, source: ByteSource, limits: Limits) -> None:
        self.source = source
        self.form = Format.ZIP
        self.checked_by = "its CRC-32"
        self.lost: list[IntegrityError] = []
        self._limits = limits
        self._owner = (os.geteuid(), os.getegid())
        self._end = find_directory(source).offset
        self._records: list[ZipRecord] = []
        names = Names()
        self.entries, self.unfit, self.notes = arrange(self._members(names), names)
        self.members = len(self._records)

    def check(self) -> None:
        """See ``PlainArchive``."""
        locked = [one for one in self._records if one.is_encrypted]
        if locked:
            raise RestoreError(
                f"{self.source.name} is encrypted with a password, as {len(locked):,} of its"
                f" {self.members:,} members are, and that is not supported",
                hint="unpack it with the tool that made it, or with 'unzip' or '7z x'",
            )
        total = sum(one.size for one in self._records)
        self._limits.check_size(total, self.source.size, self.source.name)
        self._refuse_overlaps()

    def read(self, entries: Iterable[Entry]) -> Iterator[Iterator[memoryview]]:
        """See ``PlainArchive``."""
        for entry in entries:
            record = self._records[entry.extents[0].frame]
            yield self._content(record, entry.path)

    def read_all(self) -> Iterator[tuple[bytes, Iterator[memoryview]]]:
        """Yield path and content of every member, of those too that no entry stands for."""
        for record in self._records:
            if not record.is_directory or record.size:
                yield record.path, self._content(record, record.path)

    def _members(self, names: Names) -> Iterator[Member]:
        budget = Budget(self._limits, self.source.name)
        for record in read_directory(self.source):
            self._records.append(record)
            member = self._member(record, names)
            if member is not None:
                budget.add(member.entry)
                yield member

    def _member(self, record: ZipRecord, names: Names) -> Member | None:
        kind = EntryType.DIRECTORY if record.is_directory else None
        kind = kind or _KINDS.get(stat.S_IFMT(record.mode))
        uid, gid = record.owner() or self._owner
        default = 0o755 if kind is EntryType.DIRECTORY else 0o644
        place = Extent(b"", len(self._records) - 1, 0, record.size)
        entry = Entry(
            path=names.path(record.path),
            type=kind or EntryType.FILE,
            mode=stat.S_IMODE(record.mode) if record.mode else default,
            uid=uid,
            gid=gid,
            mtime_ns=record.mtime_ns(),
            size=record.size if kind is not EntryType.DIRECTORY else 0,
            extents=(place,) if kind in {None, EntryType.FILE} else (),
            racy=True,  # nothing about its inode is known
        )
        if kind is EntryType.SYMLINK:
            return self._link(entry, record)
        return Member(entry, unfit=self._why_not(record, kind))

    @staticmethod
    def _why_not(record: ZipRecord, kind: EntryType | None) -> str:
        if kind is None:
            return "it is neither file, directory nor link, and zip cannot tell more"
        if kind is EntryType.FILE and record.method not in _METHODS:
            return f"it is compressed by method {record.method}, which is not supported"
        return ""

    def _link(self, entry: Entry, record: ZipRecord) -> Member | None:
        """Return a symbolic link, whose target is its content; ``None`` where that is damaged."""
        from msgspec.structs import replace  # noqa: PLC0415 - beside str.replace it reads badly

        if record.is_encrypted:
            return Member(entry, unfit="it is encrypted")
        if record.size > _LONGEST_TARGET:
            return Member(entry, unfit="it is a link to a name that is too long")
        try:
            target = b"".join(self._content(record, entry.path))
        except IntegrityError as error:
            self.lost.append(error)
            return None
        return Member(replace(entry, target=target, size=len(target)))

    def _refuse_overlaps(self) -> None:
        """Refuse members that share bytes: of a few bytes they would make any number."""
        end, last = 0, b""
        for record in sorted(self._records, key=lambda one: one.offset):
            if record.offset < end:
                raise MalformedError(
                    f"{path_text(last)} and {path_text(record.path)} overlap in"
                    f" {self.source.name}, at byte {record.offset:,}"
                )
            try:
                start = self._start(record)
            except IntegrityError as error:
                if record.is_directory:  # all others are told when they are read
                    self.lost.append(error)
                start = record.offset + _LOCAL.size + len(record.name)
            end, last = start + record.packed, record.path
            if end > self._end:
                raise MalformedError(
                    f"{path_text(last)} reaches into the directory of {self.source.name}"
                )

    def _start(self, record: ZipRecord) -> int:
        """Return where the content of a member begins, which the local header tells.

        Raises:
            MalformedError: It does not say what the directory says.
        """
        raw = read_exactly(self.source, record.offset, _LOCAL.size, self._where(record))
        (magic, _, flags, method, _, _, crc, packed, size, name_length,
         extra_length) = _LOCAL.unpack(raw)  # fmt: skip
        if magic != _LOCAL_MAGIC:
            raise MalformedError(f"there is no header of {self._where(record)}")
        at = record.offset + _LOCAL.size
        rest = read_exactly(self.source, at, name_length + extra_length, self._where(record))
        extra = parse_extra(rest[name_length:])
        same = rest[:name_length] == record.name and method == record.method
        same = same and not (flags ^ record.flags) & _SAME_FLAGS
        sizes = (crc, *wide(extra, size, packed))
        expected = (record.crc, record.size, record.packed)
        late = bool(flags & _STREAMED)  # what was not known stands behind the content
        if not same or any(
            a != b and not (late and a == 0) for a, b in zip(sizes, expected, strict=True)
        ):
            raise MalformedError(
                f"header and directory do not say the same of {self._where(record)}"
            )
        self._check_times(record, extra)
        start = at + len(rest)
        if late and not (record.is_directory and record.size == 0):  # some write none there
            self._check_descriptor(record, start + record.packed)
        return start

    def _check_times(self, record: ZipRecord, extra: dict[int, bytes]) -> None:
        """Hold the owner and the time, which no checksum covers, to their second copies."""
        for number, length in ((0x5455, 5), (0x7875, 65_535)):
            here, there = extra.get(number, b"")[:length], record.extra.get(number, b"")[:length]
            if number == 0x5455 and here and there:  # noqa: PLR2004 - flags tell which times stand where
                here, there = here[1:5], there[1:5]
            if here and there and here != there:
                raise MalformedError(
                    f"header and directory do not say the same of {self._where(record)}"
                )

    def _check_descriptor(self, record: ZipRecord, at: int) -> None:
        data = self.source.read_at(at, 24)
        data = data.removeprefix(_DESCRIPTOR_MAGIC) if data[:4] == _DESCRIPTOR_MAGIC else data
        for form in ("<3I", "<I2Q"):
            length = struct.calcsize(form)
            if len(data) >= length:
                crc, packed, size = struct.unpack_from(form, data)
                if (crc, packed, size) == (record.crc, record.packed, record.size):
                    return
        raise MalformedError(f"what follows after the content does not fit {self._where(record)}")

    def _where(self, record: ZipRecord) -> str:
        return f"{path_text(record.path)} at byte {record.offset:,} of {self.source.name}"

    def _content(self, record: ZipRecord, path: bytes) -> Iterator[memoryview]:
        """Yield the content of a member.

        Raises:
            IntegrityError: It is damaged, or larger or smaller than the directory says.
        """
        if record.method not in _METHODS or record.is_encrypted:
            raise RestoreError(
                f"cannot read {path_text(path)}: compressed by method {record.method}"
            )
        crc = total = 0
        try:
            for piece in self._plain(record):
                crc = zlib.crc32(piece, crc)
                total += len(piece)
                if total > record.size:
                    break
                yield memoryview(piece)
        except _ERRORS as error:
            raise MalformedError(f"the content is damaged of {self._where(record)}") from error
        if total != record.size:
            amount = "more" if total > record.size else "less"
            raise MalformedError(
                f"there is {amount} content than the {record.size:,} bytes that the directory"
                f" tells of {self._where(record)}"
            )
        if crc != record.crc:
            raise DigestError(f"the CRC-32 differs of {self._where(record)}")

    def _plain(self, record: ZipRecord) -> Iterator[bytes]:
        at = self._start(record)
        end = at + record.packed
        if end > self._end:
            raise MalformedError(f"the directory begins within {self._where(record)}")
        if record.method == _STORED:
            while at < end:
                piece = read_exactly(self.source, at, min(_STEP, end - at), self._where(record))
                at += len(piece)
                yield piece
            return
        at, decoder = self._decoder(record, at)
        while not decoder.eof:
            data = b""
            if decoder.needs_input:
                if at >= end:
                    raise TruncatedError(f"the content ends too early of {self._where(record)}")
                data = read_exactly(self.source, at, min(_STEP, end - at), self._where(record))
                at += len(data)
            yield decoder.decompress(data, _STEP)
        if decoder.unused_data or at != end:
            raise MalformedError(f"something follows after the content of {self._where(record)}")

    def _decoder(
        self, record: ZipRecord, at: int
    ) -> tuple[int, Inflater | bz2.BZ2Decompressor | lzma.LZMADecompressor | zstd.ZstdDecompressor]:
        """Return what decompresses a content, and where the compressed bytes begin."""
        if record.method == _DEFLATED:
            return at, Inflater(-15)
        if record.method == _BZIP2:
            return at, bz2.BZ2Decompressor()
        if record.method == _ZSTD:
            options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
            return at, zstd.ZstdDecompressor(options=options)
        head = read_exactly(self.source, at, 9, self._where(record))
        if head[2:4] != b"\x05\x00":
            raise MalformedError(f"the content is damaged of {self._where(record)}")
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY)
        # The size of the alone format stands in zip's own place.
        has_end = record.flags & 2
        size = b"\xff" * 8 if has_end else struct.pack("<Q", record.size)
        decoder.decompress(head[4:9] + size, 0)
        return at + 9, decoder
