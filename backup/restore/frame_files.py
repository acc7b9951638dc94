"""Restoring files by frames: those of one frame are one job, done in another process."""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import msgspec

from backup import errors
from backup.errors import DigestError, IntegrityError, RestoreError
from backup.model import Chunk, Entry, path_text
from backup.pool.messages import Failure
from backup.pool.pool import Result
from backup.pool.slots import SlotSize
from backup.restore.file_jobs import (
    CHUNK_DIFFERS,
    ChunksJob,
    FilesJob,
    FilesReport,
    HiddenFile,
    decode_report,
    encode_job,
    hidden_name,
)
from backup.restore.replacing import partial_name
from backup.restore.tree_writer import TreeWriter
from backup.snapshot.content import read_content
from backup.snapshot.frame import Section
from backup.snapshot.frame_groups import FramePlace, Group, Groups
from backup.snapshot.frame_jobs import (
    FrameQueue,
    diagnose,
    integrity_error,
    sealed_piece,
)
from backup.snapshot.reader import SnapshotReader

_MOST_HELD = 20_000
_MOST_FILES = 1024  # a job that was begun is finished when somebody interrupts
_MOST_BYTES = 1 << 20
_ENTRY_BYTES = 400
_FILE_COST = 32 * 1024  # to make a file takes as long as to decompress so much
_PATIENCE = 2.0
_ROOM = 1 << 16
_MOST_CHUNKS = 8192


class WantedFile(NamedTuple):
    """A file to write; ``replace`` says whether something may be there."""

    entry: Entry
    replace: bool


class Outcome(NamedTuple):
    """What became of one file: ``error`` is why it was not written."""

    entry: Entry
    replace: bool
    error: IntegrityError | RestoreError | None = None


OnOutcome = Callable[[Outcome], object]


class FrameFiles:
    """Restores files below the target of a writer, many at once.

    Args:
        reader: The snapshot.
        writer: The target.
        on_outcome: Is told what became of each file, in no order.
        workers: How many processes; ``None`` for what the machine allows.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        writer: TreeWriter,
        on_outcome: OnOutcome,
        *,
        workers: int | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_outcome = on_outcome
        order = msgspec.msgpack.encode(writer.order())
        room = SlotSize(_MOST_BYTES + _ROOM, reader.core.cap + _ROOM)
        factory = "backup.restore.file_work:make_file_work"
        self._queue = FrameQueue(reader, factory, order, room=room, workers=workers)
        self._groups: Groups[WantedFile] = Groups(
            most_held=_MOST_HELD, most_together=_MOST_FILES, most_bytes=_MOST_BYTES
        )
        self._under_way: deque[tuple[bytes, list[WantedFile]]] = deque()

    @staticmethod
    def takes(entry: Entry) -> bool:
        """Return whether ``entry`` is a file in one frame, without holes and other names."""
        whole = len(entry.extents) == 1 and bool(entry.digest) and entry.data is None
        return whole and entry.links == 1

    def add(self, entry: Entry, *, replace: bool) -> None:
        """Write ``entry`` some time; see ``takes``.

        Raises:
            RestoreError: What refused another file would refuse all of them.
            StorageError: The store does not answer.
            WorkerError: A worker process was killed twice.
        """
        extent = entry.extents[0]
        size = len(entry.path) + _ENTRY_BYTES
        if entry.xattrs:
            size += sum(len(name) + len(value) for name, value in entry.xattrs)
        place = FramePlace(extent.snapshot, extent.frame)
        for group in self._groups.add(place, WantedFile(entry, replace), size):
            self._submit(group)

    def finish(self) -> None:
        """Write what waits, and wait until all is written; raises as ``add`` does."""
        for group in self._groups.rest():
            self._submit(group)
        self._queue.drain()

    def close(self) -> None:
        """Let workers finish what they have begun; delete what was not finished."""
        self._queue.close(patience=_PATIENCE if self._under_way else 0.0)
        for hidden, files in self._under_way:
            for place, wanted in enumerate(files):
                self._writer.remove_hidden(wanted.entry.path, hidden_name(hidden, place))
        self._under_way.clear()

    def _submit(self, group: Group[WantedFile]) -> None:
        files, number = group.items, group.place.number
        try:
            reader = self._reader.snapshot(group.place.snapshot)
            sealed, token = sealed_piece(reader, Section.ARCHIVE, number)
        except IntegrityError as error:
            self._damage(files, error)
            return
        hidden = secrets.token_hex(6).encode()
        replacing = [place for place, wanted in enumerate(files) if wanted.replace]
        job = FilesJob(sealed, hidden, [wanted.entry for wanted in files], replacing)
        self._under_way.append((hidden, files))
        cost = sealed.plain + len(files) * _FILE_COST
        self._queue.submit(encode_job(job, token), partial(self._take, reader, number), cost=cost)

    def _damage(self, files: Iterable[WantedFile], error: IntegrityError) -> None:
        for entry, replace in files:
            self._on_outcome(Outcome(entry, replace, type(error)(error.message, hint=error.hint)))

    def _take(self, reader: SnapshotReader, number: int, result: Result) -> None:
        """Take in what a worker made of the oldest job."""
        hidden, files = self._under_way[0]
        report = decode_report(result.head)
        self._writer.problems += report.problems
        if report.failure is not None:
            self._under_way.popleft()
            self._damage(files, diagnose(reader, Section.ARCHIVE, number, report.failure))
            return
        wrong: dict[int, IntegrityError | RestoreError] = {
            place: integrity_error(failure) for place, failure in report.damaged
        }
        wrong.update((place, restore_refusal(failure)) for place, failure in report.refused)
        end = len(files) if report.fatal is None else report.fatal[0]
        for place, (entry, replace) in enumerate(files[:end]):
            error = wrong.get(place)
            if replace and error is None:
                self._writer.add_hidden(entry, hidden_name(hidden, place))
            self._on_outcome(Outcome(entry, replace, error))
        self._under_way.popleft()
        if report.fatal is not None:
            _, number, failure = report.fatal
            raise restore_refusal(failure) from OSError(number, os.strerror(number))

    def write(self, entry: Entry, *, replace: bool) -> None:
        """Write any file, whole when this returns; several processes write what is large.

        Raises:
            IntegrityError: Its content is not what was saved; nothing of it is left.
            RestoreError: See ``TreeWriter.write_file``.
        """
        if entry.chunk_lists and entry.data is None:
            name = partial_name()
            fill = partial(self._fill, entry, name)
            self._writer.write_file_by(entry, fill, name, replace=replace)
        elif entry.chunk_lists:
            self._writer.write_file(entry, self._content(entry), replace=replace)
        else:
            self._writer.write_file(entry, read_content(self._reader, entry), replace=replace)

    def _fill(self, entry: Entry, name: bytes, file: int) -> None:
        """Have the chunks of ``entry`` written to ``file``, whose hidden name is ``name``."""
        status = os.fstat(file)
        hidden = HiddenFile(entry.path, name, (status.st_dev, status.st_ino))
        for _ in self._chunks(entry, hidden):
            pass

    def _content(self, entry: Entry) -> Iterator[bytes]:
        """Yield what is stored of ``entry``."""
        yield from self._chunks(entry, None)

    def _chunks(self, entry: Entry, file: HiddenFile | None) -> Iterator[bytes]:
        """Yield what comes back of the chunks of ``entry``, which are opened ahead.

        Raises:
            DigestError: They are not what was saved.
        """
        whole, total, ready = sha256(), 0, _Ready()
        for run in _runs(self._reader.chunks(entry), self._reader.core.cap):
            while self._queue.is_full:
                self._queue.take()
                yield from self._arrived(entry, ready)
            self._submit_chunks(run, file, total, ready)
            for _, length, digest in run.chunks:
                whole.update(digest)
                total += length
            if total > entry.stored_size and not entry.error:
                break
        while ready.waiting:
            self._queue.take()
            yield from self._arrived(entry, ready)
        differs = bool(entry.digest) and whole.digest() != entry.digest
        if differs or (total != entry.stored_size and not entry.error):
            raise DigestError(f"the content of {path_text(entry.path)} is not what was saved")

    def _submit_chunks(self, run: _Run, file: HiddenFile | None, at: int, ready: _Ready) -> None:
        reader = self._reader.snapshot(run.place.snapshot)
        sealed, token = sealed_piece(reader, Section.ARCHIVE, run.place.number)
        job = ChunksJob(sealed, run.chunks, file, at)
        ready.waiting += 1
        self._queue.submit(encode_job(job, token), partial(ready.take, run), cost=sealed.plain)

    def _arrived(self, entry: Entry, ready: _Ready) -> Iterator[bytes]:
        while ready.results:
            run, report, data = ready.results.popleft()
            if report.failure is not None:
                reader = self._reader.snapshot(run.place.snapshot)
                raise diagnose(reader, Section.ARCHIVE, run.place.number, report.failure)
            if report.fatal is not None:
                _, number, failure = report.fatal
                raise restore_refusal(failure) from OSError(number, os.strerror(number))
            for _, failure in report.damaged:
                if failure.message == CHUNK_DIFFERS:
                    failure.message = f"a chunk of {path_text(entry.path)} is not what was saved"
                raise integrity_error(failure)
            yield data


class _Ready:
    """Results of one file's jobs: how many are awaited, and those that have come."""

    def __init__(self) -> None:
        self.waiting = 0
        self.results: deque[tuple[_Run, FilesReport, bytes]] = deque()

    def take(self, run: _Run, result: Result) -> None:
        """Take in one, which is gone when the next job is submitted or taken."""
        self.waiting -= 1
        self.results.append((run, decode_report(result.head), bytes(result.body)))


class _Run(NamedTuple):
    """Chunks of a large file, one behind the other, that lie in one frame."""

    place: FramePlace
    chunks: list[tuple[int, int, bytes]]


def _runs(chunks: Iterable[Chunk], most_bytes: int) -> Iterator[_Run]:
    """Cut ``chunks`` into runs of one frame each, of at most ``most_bytes``."""
    run, size = None, 0
    for digest, (snapshot, frame, offset, length) in chunks:
        place = FramePlace(snapshot, frame)
        fits = size + length <= most_bytes and run is not None and len(run.chunks) < _MOST_CHUNKS
        if run is not None and not (fits and run.place == place):
            yield run
            run = None
        if run is None:
            run, size = _Run(place, []), 0
        run.chunks.append((offset, length, digest))
        size += length
    if run is not None:
        yield run


def restore_refusal(failure: Failure) -> RestoreError:
    """Return the refusal that a worker met."""
    kind: type[RestoreError] = getattr(errors, failure.kind, RestoreError)
    return kind(failure.message, hint=failure.hint)
