"""Writing the content of a snapshot: from a walk over the sources to its footer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from backup._version import PROGRAM
from backup.archive.cutting import chunk_lengths
from backup.errors import SourceError
from backup.manager.fitting import fit_entry
from backup.manager.frame_wire import FrameReport, RangeOutcome, decode_report, encode_job
from backup.manager.omissions import Omissions
from backup.manager.plan import FrameJob, Member, plan_jobs
from backup.manager.request import LeftOut, OnProgress, Problem, Progress, SnapshotRequest
from backup.manager.whole_file import CHANGED
from backup.model import Chunk, Entry, EntryType, SnapshotKind
from backup.pool.pool import Pool
from backup.snapshot.end import Counts, EndRecord, FileSystem
from backup.snapshot.frame import SealedFrame, Section
from backup.snapshot.index_builder import IndexBuilder, LargeFile
from backup.snapshot.writer import SnapshotWriter
from backup.sources.descriptors import FileOpener
from backup.sources.roots import Root
from backup.sources.sparse import read_stored
from backup.sources.tree import Skipped, TreeWalker


class Written(NamedTuple):
    """What went into a snapshot."""

    counts: Counts
    problems: tuple[Problem, ...]
    left_out: LeftOut
    sources: tuple[bytes, ...] = ()
    quicker: float = 0.0


class ContentWriter:
    """Writes what lies below ``roots`` as the content of one snapshot.

    Args:
        request: What was asked for.
        roots: The sources, prepared.
        writer: Where it goes; its header has been written.
        pool: Does the frame jobs; see ``frame_job.make_work``.
        skip: Directories to leave out, as (device, inode).
        unseen: Files that are not there for the walk, likewise.
        on_progress: Is told after every frame.
    """

    def __init__(
        self,
        request: SnapshotRequest,
        roots: Sequence[Root],
        writer: SnapshotWriter,
        pool: Pool,
        *,
        skip: Sequence[tuple[int, int]],
        unseen: Sequence[tuple[int, int]] = (),
        on_progress: OnProgress,
    ) -> None:
        self._request = request
        self._roots = roots
        self._writer = writer
        self._pool = pool
        self._builder = IndexBuilder(writer)
        self._jobs: deque[FrameJob] = deque()
        self._on_progress = on_progress
        self._walker = TreeWalker(roots, skip=skip, rules=request.rules, unseen=unseen)
        self._cutter = FileOpener()
        self._counts = Counts()
        self._problems: list[Problem] = []
        self._omissions = Omissions()
        self._contents: dict[tuple[int, int], Entry | LargeFile] = {}
        self._awaited: set[tuple[int, int]] = set()
        self._lost: set[tuple[int, int]] = set()
        self._chunks: list[Chunk] = []
        self._range_errors: list[str] = []
        self._under_way = 0
        self._quicker = 0.0

    def write(self) -> Written:
        """Write archive, index and end."""
        try:
            self._write_archive()
        finally:
            self._cutter.close()
        self._problems.extend(map(_as_problem, self._walker.remarks))
        self._writer.end_archive()
        pages = self._builder.write()
        self._writer.finish(
            EndRecord(
                job=self._request.job,
                host=self._request.host,
                kind=SnapshotKind.FULL,
                sources=tuple(root.path for root in self._roots),
                counts=self._counts,
                pages=pages,
                filesystems=tuple(FileSystem(type=one.type) for one in self._walker.filesystems),
                program=PROGRAM,
                rules=self._request.rules,
                tags=self._request.tags,
            )
        )
        sources = tuple(root.path for root in self._roots)
        problems = tuple(self._problems)
        left_out = self._omissions.summary()
        return Written(self._counts, problems, left_out, sources, self._quicker)

    def _write_archive(self) -> None:
        """Write the archive's frames, in their order, however the jobs are done."""
        for job in plan_jobs(self._walk(), capacity=self._writer.capacity, cut=self._cut):
            self._await(job)
            self._jobs.append(job)
            self._pool.submit(encode_job(job))
            while self._pool.is_full:
                self._take_result()
        while self._jobs:
            self._take_result()

    def _await(self, job: FrameJob) -> None:
        """Remember of which files with several names a job reads the first."""
        for item in job.items:
            if item.entry.links > 1 and isinstance(item, Member) and item.hardlink_to is None:
                self._awaited.add((item.entry.filesystem, item.entry.inode))

    def _take_result(self) -> None:
        job = self._jobs.popleft()
        head, body = self._pool.next()
        report = decode_report(head)
        self._writer.add(SealedFrame(Section.ARCHIVE, job.number, report.plain, body))
        if report.range is not None:
            self._take_range(job.items[0].entry, report.range)
        elif report.entries:
            self._take_mixed(job, report)
        else:
            paths = [item.entry.path for item in job.items]
            self._builder.add_lines(report.lines, report.content, report.cuts, paths)
        self._quicker = self._quicker or report.quicker
        self._add_up(job, report)

    def _walk(self) -> Iterator[Entry]:
        for found in self._walker:
            if isinstance(found, Entry):
                # Nearly all have one name and no attributes: there is nothing to look at.
                entry = found if found.links <= 1 else self._with_links(found)
                plain = not entry.xattrs and entry.data is None
                yield entry if plain else self._fit(entry)
            elif found.is_error:
                self._problems.append(Problem(found.path, found.reason))
                unseen = found.reason != "vanished"
                self._counts = replace(self._counts, errors=self._counts.errors + unseen)
            else:
                self._omissions.append(_as_problem(found))

    def _with_links(self, entry: Entry) -> Entry:
        """Where the first name of a file could not be read, let the next one be."""
        group = (entry.filesystem, entry.inode)
        while group in self._awaited and self._jobs:
            self._take_result()
        return replace(entry, links=1) if group in self._lost else entry

    def _fit(self, entry: Entry) -> Entry:
        entry, reason = fit_entry(entry, self._writer.capacity)
        if reason:
            self._problems.append(Problem(entry.path, reason))
        return entry

    def _cut(self, entry: Entry) -> Iterator[int]:
        try:
            file = self._cutter.open(entry)
            try:
                yield from chunk_lengths(
                    lambda offset, length: read_stored(file, entry.data, offset, length),
                    entry.stored_size,
                    self._writer.capacity // 2,
                )
            finally:
                os.close(file)
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error

    def _take_mixed(self, job: FrameJob, report: FrameReport) -> None:
        """Take in entries of which some are names of hard-linked files."""
        several = dict(report.entries)
        cuts = set(report.cuts)
        content = iter(report.content)
        for place, (item, line) in enumerate(zip(job.items, report.lines, strict=True)):
            if place in several:
                done = self._with_first_content(several[place], item.entry)
                self._count(done)
                self._builder.add(done)
                self._awaited.discard((item.entry.filesystem, item.entry.inode))
            else:
                cut = [0] if place in cuts else []
                self._builder.add_lines([line], bytes([next(content)]), cut, [item.entry.path])

    def _take_range(self, planned: Entry, outcome: RangeOutcome) -> None:
        """Take in a part of a large file, and after its last part the file."""
        self._chunks.extend(outcome.chunks)
        self._under_way += sum(chunk.extent.length for chunk in outcome.chunks)
        if outcome.error:
            self._range_errors.append(outcome.error)
        if outcome.is_last:
            done = self._large_file(planned, outcome)
            self._count(done)
            self._builder.add(done)
            self._awaited.discard((planned.filesystem, planned.inode))

    def _add_up(self, job: FrameJob, report: FrameReport) -> None:
        count = self._counts
        self._counts = Counts(
            entries=count.entries + len(report.content),
            files=count.files + report.files,
            bytes=count.bytes + report.size,
            errors=count.errors + len(report.problems),
        )
        self._problems += (Problem(path, reason) for path, reason in report.problems)
        self._tell(job.items[-1].entry.path)

    def _tell(self, path: bytes) -> None:
        count = self._counts
        read = count.bytes + self._under_way
        self._on_progress(Progress(count.entries, read, self._writer.size, path, self._quicker))

    def _with_first_content(self, entry: Entry, planned: Entry) -> Entry | LargeFile:
        """Give all names of a hard-linked file the content that was stored under the first."""
        if planned.links <= 1 or planned.type is not EntryType.FILE:
            return entry
        if entry.inode == planned.inode and entry.links == 1:
            return entry  # it was read on its own
        if entry.error and not entry.digest:
            self._lost.add((planned.filesystem, planned.inode))
        # Another file may have the first name by now: then nobody has read what the others name.
        own = entry if entry.inode == planned.inode else replace(planned, error=CHANGED)
        first = self._contents.setdefault((planned.filesystem, planned.inode), own)
        if isinstance(first, LargeFile):
            return LargeFile(entry=replace(first.entry, path=entry.path), chunks=first.chunks)
        return entry if first is own else replace(first, path=entry.path)

    def _large_file(self, planned: Entry, outcome: RangeOutcome) -> LargeFile:
        error = self._range_errors[0] if self._range_errors else ""
        entry = replace(planned, racy=outcome.racy, error=error)
        done = LargeFile(entry=entry, chunks=tuple(self._chunks))
        self._chunks, self._range_errors, self._under_way = [], [], 0
        if entry.links > 1:
            self._contents[entry.filesystem, entry.inode] = done
        return done

    def _count(self, done: Entry | LargeFile) -> None:
        entry = done.entry if isinstance(done, LargeFile) else done
        is_file = entry.type is EntryType.FILE
        stored = is_file and (isinstance(done, LargeFile) or not entry.error or bool(entry.extents))
        count = self._counts
        self._counts = Counts(
            entries=count.entries + 1,
            files=count.files + is_file,
            bytes=count.bytes + (entry.size if stored else 0),
            errors=count.errors + bool(entry.error),
        )
        if entry.error:
            self._problems.append(Problem(entry.path, entry.error))


def _as_problem(found: Skipped) -> Problem:
    return Problem(found.path, found.reason)
