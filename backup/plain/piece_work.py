"""Making pieces of an archive, and testing them: work for a pool.

A piece depends on nothing but its job and the files it reads, so they may be made in any process
and in any order.
"""

from __future__ import annotations

import errno
import os
import zlib
from typing import cast

import msgspec
from msgspec.structs import replace

from backup.archive.records import BLOCK_BYTES
from backup.manager.frame_wire import decode_job
from backup.manager.plan import FrameJob, Member, Range, size_bound
from backup.manager.whole_file import CHANGED, read_whole
from backup.model import Entry, EntryType
from backup.plain.formats import Format
from backup.plain.piece_making import maker_of
from backup.plain.piece_testing import PieceTester
from backup.plain.piece_wire import Order, Piece, PieceReport, decode_task, encode_report
from backup.sources.descriptors import FileOpener
from backup.sources.reading import matches_entry, same_file
from backup.sources.sparse import next_data, read_stored

_FIRST_NAME_LOST = "its content could not be read under its first name"


class PieceWork:
    """The work of one process; see ``backup.pool``."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._opener = FileOpener()
        self._maker = maker_of(order)
        self._tester = PieceTester(order.format)
        self._zeros = b""
        self._of_zeros: tuple[Piece, int, bytes] | None = None

    def close(self) -> None:
        """Close what is kept open between jobs."""
        self._opener.close()

    def run(self, job: memoryview) -> tuple[bytes, bytes]:
        """Make a piece, or test one; return the report and the piece's bytes."""
        task = decode_task(job)
        if task.piece is not None:
            self._tester.test(task.piece, task.data)
            return b"", b""
        frame = decode_job(task.data)
        first = frame.items[0]
        if isinstance(first, Range):
            report, body = self._run_of_file(first)
        else:
            report, body = self._members(frame)
        return encode_report(report), body

    def _members(self, job: FrameJob) -> tuple[PieceReport, bytes]:
        self._maker.clear()
        report = PieceReport()
        bounds = list(map(size_bound, job.items))
        # By how much files may have grown since they were listed:
        spare = max(self._order.capacity - sum(bounds) - BLOCK_BYTES, 0)
        lost: set[tuple[int, int]] = set()
        for given, planned in zip(job.items, bounds, strict=True):
            item, bound = cast("Member", given), planned
            if lost and (item.entry.filesystem, item.entry.inode) in lost:
                item = _with_own_content(item, spare)
                bound = size_bound(item)
                spare -= bound - planned
            entry = self._add(item, bound + spare, report)
            if entry is not None:
                grown = size_bound(Member(entry, item.hardlink_to)) - bound
                spare -= max(grown, 0)
            # Another file may have that name by now: then the other names have to bring theirs.
            if item.entry.links > 1 and (entry is None or entry.inode != item.entry.inode):
                lost.add((item.entry.filesystem, item.entry.inode))
        report.lost = sorted(lost)
        report.piece, body = self._maker.finish()
        report.members = self._maker.members
        return report, body

    def _add(self, item: Member, room: int, report: PieceReport) -> Entry | None:
        """Add an entry as it is now; return it, ``None`` where it could not be read."""
        entry, content = item.entry, b""
        if entry.type is EntryType.FILE and item.hardlink_to is None and not entry.error:
            entry, found = self._read(entry, room)
            content = found or b""
            if found is None:
                report.problems.append((entry.path, entry.error))
                return None
        if entry.error:
            report.problems.append((entry.path, entry.error))
            if entry is item.entry:
                return None
        report.entries += 1
        if entry.type is EntryType.FILE:
            report.files += 1
            report.size += entry.size if item.hardlink_to is None else 0
        self._maker.add(entry, content, item.hardlink_to)
        return entry

    def _read(self, entry: Entry, room: int) -> tuple[Entry, bytes | None]:
        entry, content = read_whole(self._opener, entry, room=room, capacity=self._order.capacity)
        if self._order.format is Format.ZIP and content is not None and entry.data is not None:
            # It has become sparse since it was listed, and zip knows no holes.
            if entry.size > room:
                return replace(entry, error=os.strerror(errno.EFBIG)), None
            content = _filled(entry, content)
        return entry, content

    def _run_of_file(self, item: Range) -> tuple[PieceReport, bytes]:
        length = sum(item.lengths)
        if len(self._zeros) != length:
            self._zeros, self._of_zeros = bytes(length), None
        content, error = self._content_of(item, length)
        is_first, is_last = item.offset == 0, item.is_last
        # Disk images and holes: the same piece over and over.
        is_known = content == self._zeros and not is_first and not is_last
        if is_known and self._of_zeros is not None:
            piece, crc, body = self._of_zeros
        else:
            self._maker.clear()
            self._maker.add_run(item.entry, content, is_first=is_first, is_last=is_last)
            (piece, body), crc = self._maker.finish(), zlib.crc32(content)
            self._of_zeros = (piece, crc, body) if is_known else self._of_zeros
        report = PieceReport(piece, crc=crc, size=len(content))
        report.entries = report.files = int(is_last)
        if error:
            report.problems.append((item.entry.path, error))
        return report, body

    def _content_of(self, item: Range, length: int) -> tuple[bytes, str]:
        """Return what a run holds, and why it is not as it was listed, if so.

        What could not be read keeps its place, as zeros.
        """
        try:
            file = self._opener.open(item.entry)
            try:
                before = os.fstat(file)
                if self._is_hole(file, item, length):
                    content = self._zeros
                else:
                    content = read_stored(file, item.entry.data, item.offset, length)
                after = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            return self._zeros, error.strerror or str(error)
        steady = matches_entry(item.entry, before) and same_file(before, after)
        whole = len(content) == length
        return content.ljust(length, b"\0"), "" if steady and whole else CHANGED

    def _is_hole(self, file: int, item: Range, length: int) -> bool:
        """Return whether there is nothing to read, of a file whose holes go into the archive."""
        if item.entry.data is not None:
            return False
        if os.fstat(file).st_size < item.stop:
            return False  # it became shorter, which is told by whoever reads it
        return next_data(file, item.offset) >= item.offset + length


def _with_own_content(item: Member, spare: int) -> Member:
    """Let another name of a file be read where its first name could not, if there is room."""
    alone = Member(replace(item.entry, links=1))
    if size_bound(alone) - size_bound(item) <= spare:
        return alone
    return Member(replace(item.entry, links=1, error=_FIRST_NAME_LOST))


def _filled(entry: Entry, stored: bytes) -> bytes:
    """Return the content of a sparse file with its holes, given what is stored of it."""
    content = bytearray(entry.size)
    at = 0
    for offset, length in entry.data or ():
        content[offset : offset + length] = stored[at : at + length]
        at += length
    return bytes(content)


def make_work(data: bytes) -> PieceWork:
    """Return what does the jobs of the order in ``data``."""
    return PieceWork(msgspec.msgpack.decode(data, type=Order))
