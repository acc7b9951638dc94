"""Writing the content of a snapshot: from a walk over the sources to its footer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from backup._version import PROGRAM
from backup.archive.cutting import chunk_lengths
from backup.errors import SourceError
from backup.manager.frame_job import CHANGED, FrameResult, FrameWorker, RangeOutcome
from backup.manager.plan import plan_jobs
from backup.manager.request import OnProgress, Problem, Progress, SnapshotRequest
from backup.model import Chunk, Entry, EntryType, SnapshotKind
from backup.snapshot.end import Counts, EndRecord, FileSystem
from backup.snapshot.index_builder import IndexBuilder, LargeFile
from backup.snapshot.writer import SnapshotWriter
from backup.sources.descriptors import FileOpener
from backup.sources.reading import read_range
from backup.sources.roots import Root
from backup.sources.tree import Skipped, TreeWalker


class Written(NamedTuple):
    """What went into a snapshot."""

    counts: Counts
    problems: tuple[Problem, ...]
    skipped: tuple[Problem, ...]


class ContentWriter:
    """Writes what lies below ``roots`` as the content of one snapshot.

    Args:
        request: What was asked for.
        roots: The sources, prepared.
        writer: Where it goes; its header has been written.
        worker: Does the frame jobs.
        skip: Directories to leave out, as (device, inode).
        on_progress: Is told after every frame.
    """

    def __init__(
        self,
        request: SnapshotRequest,
        roots: Sequence[Root],
        writer: SnapshotWriter,
        worker: FrameWorker,
        *,
        skip: Sequence[tuple[int, int]],
        on_progress: OnProgress,
    ) -> None:
        self._request = request
        self._roots = roots
        self._writer = writer
        self._worker = worker
        self._on_progress = on_progress
        self._walker = TreeWalker(roots, skip=skip)
        self._cutter = FileOpener()
        self._counts = Counts()
        self._problems: list[Problem] = []
        self._skipped: list[Problem] = []
        self._contents: dict[tuple[int, int], Entry | LargeFile] = {}
        self._lost: set[tuple[int, int]] = set()
        self._chunks: list[Chunk] = []
        self._range_errors: list[str] = []

    def write(self) -> Written:
        """Write archive, index and end."""
        builder = IndexBuilder(self._writer)
        try:
            builder.take(self._entries())
        finally:
            self._cutter.close()
        self._writer.end_archive()
        pages = builder.write()
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
            )
        )
        return Written(self._counts, tuple(self._problems), tuple(self._skipped))

    def _entries(self) -> Iterator[Entry | LargeFile]:
        """Write the archive's frames, yielding the entries that their jobs gave."""
        jobs = plan_jobs(self._walk(), capacity=self._writer.capacity, cut=self._cut)
        for job in jobs:
            result = self._worker.run(job)
            self._writer.add(result.frame)
            yield from self._finished(result, [item.entry for item in job.items])

    def _walk(self) -> Iterator[Entry]:
        for found in self._walker:
            if isinstance(found, Entry):
                # Where the first name of a file could not be read, the next one is.
                lost = (found.filesystem, found.inode) in self._lost
                yield replace(found, links=1) if lost else found
            elif found.is_error:
                self._problems.append(Problem(found.path, found.reason))
            else:
                self._skipped.append(_as_problem(found))

    def _cut(self, entry: Entry) -> Iterator[int]:
        try:
            file = self._cutter.open(entry)
            try:
                yield from chunk_lengths(
                    lambda offset, length: read_range(file, offset, length),
                    entry.size,
                    self._writer.capacity // 2,
                )
            finally:
                os.close(file)
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error

    def _finished(
        self, result: FrameResult, entries: Sequence[Entry]
    ) -> Iterator[Entry | LargeFile]:
        for outcome, planned in zip(result.outcomes, entries, strict=True):
            if isinstance(outcome, Entry):
                done = self._with_first_content(outcome, planned)
            elif self._add_range(outcome):
                done = self._large_file(planned, outcome)
            else:
                continue
            self._count(done)
            yield done
        self._tell(entries[-1].path if entries else b"")

    def _tell(self, path: bytes) -> None:
        count = self._counts
        under_way = sum(chunk.extent.length for chunk in self._chunks)
        read = count.bytes + under_way
        self._on_progress(Progress(count.entries, read, self._writer.size, path))

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

    def _add_range(self, outcome: RangeOutcome) -> bool:
        """Take in a part of a large file; tell whether it was the last one."""
        self._chunks.extend(outcome.chunks)
        if outcome.error:
            self._range_errors.append(outcome.error)
        return outcome.is_last

    def _large_file(self, planned: Entry, outcome: RangeOutcome) -> LargeFile:
        error = self._range_errors[0] if self._range_errors else ""
        entry = replace(planned, racy=outcome.racy, error=error)
        done = LargeFile(entry=entry, chunks=tuple(self._chunks))
        self._chunks, self._range_errors = [], []
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
