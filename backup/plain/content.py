"""Writing the content of an archive: from a walk over the sources to its last byte."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import IO, NamedTuple

import msgspec

from backup.archive.tar import END_OF_ARCHIVE
from backup.errors import SourceError, StorageError
from backup.manager import LeftOut, Problem
from backup.manager.fitting import fit_entry
from backup.manager.frame_wire import encode_job
from backup.manager.omissions import Omissions
from backup.manager.plan import FrameJob, Member, Range, plan_jobs
from backup.model import Entry, path_text
from backup.plain.deflating import joined_crc
from backup.plain.formats import Format
from backup.plain.members import NOT_IN_ZIP, ZipFit, name_start, zip_member
from backup.plain.piece_pool import level_of
from backup.plain.piece_wire import Piece, PieceReport, decode_report, making
from backup.plain.request import ArchiveRequest, OnBytes
from backup.plain.zip_records import (
    DEFLATED,
    ZipMember,
    central_record,
    descriptor,
    end_of_directory,
    local_header,
)
from backup.pool.pool import Pool
from backup.snapshot.compression import compress
from backup.snapshot.end import Counts
from backup.sources.descriptors import FileOpener
from backup.sources.tree import TreeWalker

_SPOOL_BYTES = 8 << 20

Write = Callable[[bytes | bytearray | memoryview], object]


class PieceAt(NamedTuple):
    """A piece, and where in the file it begins."""

    offset: int
    piece: Piece


class Written(NamedTuple):
    """What went into an archive."""

    counts: Counts
    problems: tuple[Problem, ...]
    left_out: LeftOut
    renamed: tuple[Problem, ...]
    pieces: tuple[PieceAt, ...]


class ArchiveContent:
    """Writes what lies below the roots of a request as one archive.

    Args:
        request: What was asked for.
        write: Takes the bytes of the archive, in order.
        pool: Makes the pieces; see ``piece_work.make_work``.
        unseen: Files that are not there for the walk, as (device, inode): the archive itself.
        on_bytes: Is told after every piece.
    """

    def __init__(
        self,
        request: ArchiveRequest,
        write: Write,
        pool: Pool,
        *,
        unseen: Sequence[tuple[int, int]],
        on_bytes: OnBytes,
    ) -> None:
        self._request = request
        self._write = write
        self._pool = pool
        self._on_bytes = on_bytes
        self._is_zip = request.format is Format.ZIP
        self._start = name_start(request.roots)
        self._zip_fit = ZipFit(self._start)
        self._walker = TreeWalker(
            request.roots, skip=request.skip, rules=request.rules, unseen=unseen
        )
        self._opener = FileOpener()
        self._jobs: deque[FrameJob] = deque()
        self._size = 0
        self._pieces: list[PieceAt] = []
        self._directory = _Directory()
        self._large: ZipMember | None = None
        self._awaited: set[tuple[int, int]] = set()
        self._lost: set[tuple[int, int]] = set()
        self._counts = Counts()
        self._problems: list[Problem] = []
        self._renamed: list[Problem] = []
        self._omissions = Omissions()

    def write(self) -> Written:
        """Write all of it.

        Raises:
            SourceError: There is nothing of the sources to be had.
        """
        try:
            self._write_pieces()
            if not self._is_zip:
                self._problems += (Problem(one.path, one.reason) for one in self._walker.remarks)
            self._refuse_nothing()
            self._write_end()
        finally:
            self._opener.close()
            self._directory.close()
        return Written(
            self._counts,
            tuple(dict.fromkeys(self._problems)),  # one of a file, however many pieces it has
            self._omissions.summary(),
            tuple(self._renamed),
            tuple(self._pieces),
        )

    def _write_pieces(self) -> None:
        for job in plan_jobs(self._walk(), capacity=self._request.capacity, cut=self._cut):
            for item in job.items:
                if item.entry.links > 1 and isinstance(item, Member) and item.hardlink_to is None:
                    self._awaited.add((item.entry.filesystem, item.entry.inode))
            self._jobs.append(job)
            self._pool.submit(making(encode_job(job)))
            while self._pool.is_full:
                self._take_result()
        while self._jobs:
            self._take_result()

    def _walk(self) -> Iterator[Entry]:
        for found in self._walker:
            if isinstance(found, Entry):
                entry = self._zip_entry(found) if self._is_zip else self._tar_entry(found)
                if entry is not None:
                    yield entry
            elif found.is_error:
                self._problems.append(Problem(found.path, found.reason))
            else:
                self._omissions.append(Problem(found.path, found.reason))

    def _zip_entry(self, entry: Entry) -> Entry | None:
        if not entry.path[self._start :]:
            return None  # the root directory, which has no name
        if entry.type in NOT_IN_ZIP:
            self._omissions.append(Problem(entry.path, NOT_IN_ZIP[entry.type]))
            return None
        refusal = self._zip_fit.refusal(entry)
        if refusal:
            self._problems.append(Problem(entry.path, refusal))
            return None
        new_name = self._zip_fit.new_name(entry)
        if new_name:
            self._renamed.append(Problem(entry.path, new_name))
        return self._zip_fit.fit(entry)

    def _tar_entry(self, entry: Entry) -> Entry:
        if entry.links > 1:
            # Where the first name of a file cannot be read, the next one brings its content.
            group = (entry.filesystem, entry.inode)
            while group in self._awaited and self._jobs:
                self._take_result()
            if group in self._lost:
                entry = msgspec.structs.replace(entry, links=1)
        entry, reason = fit_entry(entry, self._request.capacity)
        if reason:
            self._problems.append(Problem(entry.path, reason))
        return entry

    def _cut(self, entry: Entry) -> Iterator[int]:
        """Yield the lengths of a large file's runs, once it has been seen that it can be read."""
        try:
            os.close(self._opener.open(entry))
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error
        left = entry.stored_size
        while left:
            yield min(left, self._request.capacity)
            left -= min(left, self._request.capacity)

    def _take_result(self) -> None:
        job = self._jobs.popleft()
        head, body = self._pool.next()
        report = decode_report(head)
        first = job.items[0]
        if isinstance(first, Range) and self._is_zip:
            self._put_run(first, report, body)
        else:
            for member in report.members:
                member.offset += self._size
                self._directory.add(member)
            self._put_piece(report.piece, body)
        self._lost.update(report.lost)
        for item in job.items:
            self._awaited.discard((item.entry.filesystem, item.entry.inode))
        self._add_up(report)

    def _put_run(
        self, item: Range, report: PieceReport, body: bytes | bytearray | memoryview
    ) -> None:
        if self._large is None:
            self._large = zip_member(item.entry, self._start)
            self._large.streamed, self._large.method = True, DEFLATED
            self._large.offset = self._size
            self._put(local_header(self._large))
        self._large.crc = joined_crc(self._large.crc, report.crc, report.piece.plain)
        self._large.packed += len(body)
        self._put_piece(report.piece, body)
        if item.is_last:
            self._put(descriptor(self._large))
            self._directory.add(self._large)
            self._large = None

    def _put_piece(self, piece: Piece, body: bytes | bytearray | memoryview) -> None:
        if body:
            self._pieces.append(PieceAt(self._size, piece))
            self._put(memoryview(body))

    def _put(self, data: bytes | memoryview) -> None:
        self._write(data)
        self._size += len(data)

    def _add_up(self, report: PieceReport) -> None:
        count = self._counts
        self._counts = Counts(
            entries=count.entries + report.entries,
            files=count.files + report.files,
            bytes=count.bytes + report.size,
            errors=count.errors + len(report.problems),
        )
        self._problems += (Problem(path, reason) for path, reason in report.problems)
        self._on_bytes(self._counts.bytes)

    def _refuse_nothing(self) -> None:
        """Refuse to make an archive of nothing, which would look like one of something."""
        if not self._counts.entries:
            first = self._problems[0] if self._problems else None
            reason = f": {first.reason}" if first else ""
            path = first.path if first else self._request.roots[0].path
            raise SourceError(f"there is nothing to archive: {path_text(path)}{reason}")

    def _write_end(self) -> None:
        request = self._request
        if not self._is_zip:
            self._put(compress(request.packing, level_of(request), END_OF_ARCHIVE))
            return
        offset = self._size
        for block in self._directory.blocks():
            self._put(block)
        size = self._size - offset
        self._put(end_of_directory(self._directory.count, size, offset))


class _Directory:
    """The directory of a zip file, which stands at its end; a large one waits in a file."""

    def __init__(self) -> None:
        self.count = 0
        self._spool: IO[bytes] = SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115

    def add(self, member: ZipMember) -> None:
        """Take in one member."""
        try:
            self._spool.write(central_record(member))
        except OSError as error:
            raise _no_spool(error) from error
        self.count += 1

    def blocks(self) -> Iterator[bytes]:
        """Yield all of it."""
        try:
            self._spool.seek(0)
            while block := self._spool.read(1 << 20):
                yield block
        except OSError as error:
            raise _no_spool(error) from error

    def close(self) -> None:
        """Let go of the file."""
        self._spool.close()


def _no_spool(error: OSError) -> StorageError:
    return StorageError(
        f"cannot set the zip file's directory aside: {error.strerror}",
        hint="free some space where temporary files lie, or set TMPDIR to another place",
    )
