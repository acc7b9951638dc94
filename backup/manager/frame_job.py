"""Doing a frame job: read, tar, hash, compress, check, seal.

A job depends on nothing but its arguments and the files it reads, so jobs may run in any process
and in any order; each gives exactly one frame, which may be empty.
"""

from __future__ import annotations

import os
from hashlib import sha256
from time import process_time
from typing import cast

import msgspec
from msgspec.structs import replace

from backup.archive.records import BLOCK_BYTES
from backup.archive.tar import member_header, padding
from backup.manager.frame_wire import (
    FrameReport,
    RangeOutcome,
    WorkOrder,
    decode_job,
    encode_report,
)
from backup.manager.piece_buffer import PieceBuffer
from backup.manager.plan import FrameJob, Member, Range, size_bound
from backup.manager.whole_file import CHANGED, is_racy, read_whole
from backup.model import ArchiveType, Chunk, Entry, EntryType, Extent
from backup.snapshot.compression import check_level
from backup.snapshot.entry_line import encode_entry
from backup.snapshot.frame import FrameKeys, SealedFrame, Section, piece_capacity
from backup.snapshot.header import Core, parse_core
from backup.snapshot.index import ends_segment
from backup.snapshot.writer import make_piece
from backup.sources.descriptors import FileOpener
from backup.sources.reading import matches_entry, same_file
from backup.sources.sparse import read_stored


class FrameWorker:
    """Does frame jobs of one snapshot.

    Args:
        core: The snapshot's core.
        data_key: Its data key.
        level: The compression level of the archive.
    """

    def __init__(self, core: Core, data_key: bytes, level: int) -> None:
        self._core = core
        self._keys = FrameKeys(core, data_key)
        self._level = level
        self._capacity = piece_capacity(core.archive, core.cap)
        self._plain = PieceBuffer(self._capacity)
        self._token = bytearray()
        self._opener = FileOpener()

    def close(self) -> None:
        """Close what is kept open between jobs."""
        self._opener.close()

    def run(self, job: FrameJob) -> tuple[FrameReport, SealedFrame]:
        """Return the sealed frame of ``job``, its piece proven to decompress to what went in.

        The frame's bytes stay as they are until the next run.
        """
        report, piece = self._make_piece(job)
        if not self._token:
            self._token = bytearray(self._keys.room())
        keys, section = self._keys, Section.ARCHIVE
        return report, keys.seal(section, job.number, piece, report.plain, self._token)

    def _make_piece(self, job: FrameJob) -> tuple[FrameReport, bytes]:
        started = process_time()
        plain = self._plain
        plain.clear()
        first = job.items[0]
        if isinstance(first, Range):
            report = FrameReport(plain=0, range=self._add_range(plain, first, job.number))
        else:
            report = self._add_members(plain, job)
        report.plain = len(plain)
        gathered = process_time()
        piece = make_piece(self._core.archive, self._level, plain.room, len(plain))
        if job.number == 0 and self._core.archive is ArchiveType.TAR_XZ:
            report.quicker = _try_zstd(plain, gathered - started, process_time() - gathered)
        return report, piece

    def _add_members(self, plain: PieceBuffer, job: FrameJob) -> FrameReport:
        report = FrameReport(plain=0)
        bounds = list(map(size_bound, job.items))
        # By how much files may have grown since they were listed:
        spare = max(self._capacity - sum(bounds) - BLOCK_BYTES, 0)
        lost: set[tuple[int, int]] = set()
        for given, planned in zip(job.items, bounds, strict=True):
            item, bound = cast("Member", given), planned
            if lost and (item.entry.filesystem, item.entry.inode) in lost:
                item = _with_own_content(item, spare)
                bound = size_bound(item)
                spare -= bound - planned
            entry = self._add_member(plain, item, job.number, bound + spare)
            if entry.error and not entry.digest:
                lost.add((item.entry.filesystem, item.entry.inode))
            elif _may_take_more(entry, item.entry):
                spare -= max(size_bound(Member(entry, item.hardlink_to)) - bound, 0)
            self.tell(report, given.entry, entry)
        return report

    def tell(self, report: FrameReport, planned: Entry, entry: Entry) -> None:
        """Put down what became of an entry: as a line, unless it is one of several names."""
        if planned.links > 1 and planned.type is EntryType.FILE:
            report.entries.append((len(report.lines), entry))
            report.lines.append(b"")
            return
        if ends_segment(entry.path):
            report.cuts.append(len(report.lines))
        report.lines.append(encode_entry(entry, self._ordinal))
        report.content.append(bool(entry.extents))
        if entry.type is EntryType.FILE:
            report.files += 1
            report.size += entry.size if entry.extents or not entry.error else 0
        if entry.error:
            report.problems.append((entry.path, entry.error))

    def _ordinal(self, _: bytes) -> int:
        """Return the place of this snapshot's id in the tables of its segments: the first."""
        return 0

    def _add_member(self, plain: PieceBuffer, item: Member, number: int, room: int) -> Entry:
        entry = item.entry
        if item.hardlink_to is not None:
            plain.add(member_header(entry, hardlink_to=item.hardlink_to))
            return entry
        if entry.error:
            return entry
        if entry.type is not EntryType.FILE:
            plain.add(member_header(entry))
            return entry
        entry, data = read_whole(self._opener, entry, room=room, capacity=self._capacity)
        if data is None:
            return entry
        plain.add(member_header(entry))
        extents = (Extent(self._core.id, number, len(plain), len(data)),) if data else ()
        plain.add(data)
        plain.add(bytes(padding(len(data))))
        return replace(entry, digest=sha256(data).digest(), extents=extents)

    def _add_range(self, plain: PieceBuffer, item: Range, number: int) -> RangeOutcome:
        if item.offset == 0:
            plain.add(member_header(item.entry))
        chunks: list[Chunk] = []
        error = self._read_chunks(plain, item, number, chunks)
        # What could not be read keeps its place.
        missing = item.lengths[len(chunks) :]
        chunks += [self._add_chunk(plain, bytes(length), number) for length in missing]
        if item.is_last:
            plain.add(bytes(padding(item.entry.stored_size)))
        return RangeOutcome(tuple(chunks), item.is_last, is_racy(item.entry), error)

    def _read_chunks(
        self, plain: PieceBuffer, item: Range, number: int, chunks: list[Chunk]
    ) -> str:
        """Add the chunks of a run; return why they are not as they were listed, if so."""
        is_short = False
        try:
            file = self._opener.open(item.entry)
            try:
                before = os.fstat(file)
                at = item.offset
                for length in item.lengths:
                    data = read_stored(file, item.entry.data, at, length)
                    is_short |= len(data) != length
                    chunks.append(self._add_chunk(plain, data.ljust(length, b"\0"), number))
                    at += length
                after = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            return error.strerror or str(error)
        steady = matches_entry(item.entry, before) and same_file(before, after)
        return "" if steady and not is_short else CHANGED

    def _add_chunk(self, plain: PieceBuffer, data: bytes, number: int) -> Chunk:
        extent = Extent(self._core.id, number, len(plain), len(data))
        plain.add(data)
        return Chunk(sha256(data).digest(), extent)


def _may_take_more(entry: Entry, planned: Entry) -> bool:
    """Return whether a file as it was read may take more room than as it was listed."""
    return (
        entry.size != planned.size
        or entry.xattrs is not planned.xattrs
        or entry.data is not planned.data
    )


def _with_own_content(item: Member, spare: int) -> Member:
    """Let another name of a file be read where its first name could not, if there is room."""
    alone = Member(replace(item.entry, links=1))
    return alone if size_bound(alone) - size_bound(item) <= spare else item


def _try_zstd(plain: PieceBuffer, gathering: float, compressing: float) -> float:
    """Return how many times as fast a frame is with zstd, given the seconds it took with xz."""
    start = process_time()
    make_piece(ArchiveType.TAR_ZST, check_level(ArchiveType.TAR_ZST, None), plain.room, len(plain))
    return (gathering + compressing) / max(gathering + process_time() - start, 1e-6)


class FrameWork:
    """A frame worker's work, as bytes; see ``backup.pool``."""

    def __init__(self, order: WorkOrder) -> None:
        self._worker = FrameWorker(parse_core(order.core), order.data_key, order.level)

    def run(self, job: memoryview) -> tuple[bytes, bytes | bytearray | memoryview]:
        """Return the report of a job, and the sealed token of its frame."""
        report, frame = self._worker.run(decode_job(job))
        return encode_report(report), frame.token

    def close(self) -> None:
        """See FrameWorker."""
        self._worker.close()


def make_work(data: bytes) -> FrameWork:
    """Return what does the jobs of the work order in ``data``."""
    return FrameWork(msgspec.msgpack.decode(data, type=WorkOrder))
