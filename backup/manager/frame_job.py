"""Doing a frame job: read, tar, hash, compress, check, seal.

A job depends on nothing but its arguments and the files it reads, so jobs may run in any process
and in any order; each gives exactly one frame, which may be empty.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import NamedTuple

from msgspec.structs import replace

from backup.archive.tar import BLOCK_BYTES, member_header, padding
from backup.clock import now_ns
from backup.manager.plan import FrameJob, Member, Range, size_bound
from backup.model import Chunk, Entry, EntryType, Extent
from backup.snapshot.frame import FrameKeys, SealedFrame, Section, piece_capacity
from backup.snapshot.header import Core
from backup.snapshot.writer import make_piece
from backup.sources.descriptors import FileOpener
from backup.sources.reading import matches_entry, read_range, same_file

_RACY_NS = 2_000_000_000
CHANGED = "changed while it was read"


class RangeOutcome(NamedTuple):
    """What a run of chunks of a large file became."""

    path: bytes
    chunks: tuple[Chunk, ...]
    is_last: bool
    racy: bool
    error: str


Outcome = Entry | RangeOutcome


class FrameResult(NamedTuple):
    """A frame, and what its items became, in their order."""

    frame: SealedFrame
    outcomes: tuple[Outcome, ...]


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
        self._opener = FileOpener()

    def close(self) -> None:
        """Close what is kept open between jobs."""
        self._opener.close()

    def run(self, job: FrameJob) -> FrameResult:
        """Return the sealed frame of ``job``, its piece proven to decompress to what went in."""
        plain = bytearray()
        outcomes: list[Outcome] = []
        spare = self._spare(job)
        lost: set[tuple[int, int]] = set()
        for given in job.items:
            if isinstance(given, Range):
                outcomes.append(self._add_range(plain, given, job.number))
                continue
            item = given
            if (given.entry.filesystem, given.entry.inode) in lost:
                item = _with_own_content(given, spare)
                spare -= size_bound(item) - size_bound(given)
            entry = self._add_member(plain, item, job.number, spare)
            if entry.error and not entry.digest:
                lost.add((item.entry.filesystem, item.entry.inode))
            spare -= max(entry.size - item.entry.size, 0)
            outcomes.append(entry)
        piece = make_piece(self._core.archive, self._level, plain)
        frame = self._keys.seal(Section.ARCHIVE, job.number, piece, len(plain))
        return FrameResult(frame, tuple(outcomes))

    def _spare(self, job: FrameJob) -> int:
        """Return by how much files may have grown since they were listed."""
        capacity = piece_capacity(self._core.archive, self._core.cap)
        return max(capacity - sum(size_bound(item) for item in job.items) - BLOCK_BYTES, 0)

    def _add_member(self, plain: bytearray, item: Member, number: int, spare: int) -> Entry:
        entry = item.entry
        if item.hardlink_to is not None:
            plain += member_header(entry, hardlink_to=item.hardlink_to)
            return entry
        if entry.error:
            return entry
        if entry.type is not EntryType.FILE:
            plain += member_header(entry)
            return entry
        entry, data = self._read_whole(entry, entry.size + spare)
        if data is None:
            return entry
        plain += member_header(entry)
        extents = (Extent(self._core.id, number, len(plain), len(data)),) if data else ()
        plain += data
        plain += bytes(padding(len(data)))
        return replace(entry, digest=sha256(data).digest(), extents=extents)

    def _read_whole(self, entry: Entry, limit: int) -> tuple[Entry, bytes | None]:
        """Return a file's entry and content; read once more where it changed in between.

        What happened between the walk and now is no concern: the entry tells the file as it was
        when it was read, up to ``limit`` bytes.
        """
        try:
            for _ in range(2):
                entry, data, steady = self._read_once(entry, limit)
                if steady:
                    return entry, data
        except OSError as error:
            return replace(entry, error=error.strerror or str(error)), None
        return replace(entry, size=len(data), error=CHANGED), data

    def _read_once(self, entry: Entry, limit: int) -> tuple[Entry, bytes, bool]:
        file = self._opener.open(entry)
        try:
            before = os.fstat(file)
            data = read_range(file, 0, min(before.st_size, limit))
            after = os.fstat(file)
        finally:
            os.close(file)
        if not matches_entry(entry, before):
            entry = _as_it_was(entry, before)
        steady = same_file(before, after) and len(data) == before.st_size
        return replace(entry, racy=True) if is_racy(entry) else entry, data, steady

    def _add_range(self, plain: bytearray, item: Range, number: int) -> RangeOutcome:
        if item.offset == 0:
            plain += member_header(item.entry)
        data, error = self._read_part(item)
        chunks = []
        at = 0
        for length in item.lengths:
            chunk = data[at : at + length]
            extent = Extent(self._core.id, number, len(plain), length)
            chunks.append(Chunk(sha256(chunk).digest(), extent))
            plain += chunk
            at += length
        if item.is_last:
            plain += bytes(padding(item.entry.size))
        racy = is_racy(item.entry)
        return RangeOutcome(item.entry.path, tuple(chunks), item.is_last, racy, error)

    def _read_part(self, item: Range) -> tuple[memoryview, str]:
        length = sum(item.lengths)
        try:
            file = self._opener.open(item.entry)
            try:
                before = os.fstat(file)
                data = read_range(file, item.offset, length)
                after = os.fstat(file)
            finally:
                os.close(file)
        except OSError as error:
            return memoryview(bytes(length)), error.strerror or str(error)
        steady = matches_entry(item.entry, before) and same_file(before, after)
        if len(data) != length:
            return memoryview(data.ljust(length, b"\0")), CHANGED
        return memoryview(data), "" if steady else CHANGED


def _with_own_content(item: Member, spare: int) -> Member:
    """Let another name of a file be read where its first name could not, if there is room."""
    alone = Member(replace(item.entry, links=1))
    return alone if size_bound(alone) - size_bound(item) <= spare else item


def is_racy(entry: Entry) -> bool:
    """Tell whether ``entry`` changed so shortly ago that a further change could go unnoticed.

    Clocks of file systems tick as slowly as every 2 seconds (FAT), and most kernels stamp a file
    with the time of their last tick.
    """
    return now_ns() - max(entry.mtime_ns, entry.ctime_ns) < _RACY_NS


def _as_it_was(entry: Entry, status: os.stat_result) -> Entry:
    return replace(
        entry,
        mode=status.st_mode & 0o7777,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
        inode=status.st_ino,
        links=entry.links if status.st_ino == entry.inode else 1,
    )
