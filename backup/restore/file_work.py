"""The work of a restore's workers: open a frame, check what lies in it, write the files."""

from __future__ import annotations

import errno
import os
from functools import partial

import msgspec

from backup.errors import DigestError, IntegrityError, MalformedError, RestoreError
from backup.model import Entry, path_text
from backup.restore.descriptors import (
    DIRECTORY_FLAGS,
    close_quietly,
    is_about_all,
    os_errors,
    restore_error,
)
from backup.restore.file_jobs import (
    CHUNK_DIFFERS,
    ChunksJob,
    FilesJob,
    FilesReport,
    HiddenFile,
    TargetOrder,
    begin_job,
    encode_report,
    hidden_name,
)
from backup.restore.file_writer import FileWriter, write_at, write_pieces
from backup.snapshot.frame_jobs import PieceOpener, failure_of
from backup.snapshot.token import digest_of


class FileWork:
    """Does the jobs of ``file_jobs``; see ``backup.pool``.

    Args:
        order: Where to write. Nothing is opened before there is something to write.
    """

    def __init__(self, order: TargetOrder) -> None:
        self._order = order
        self._opener = PieceOpener()
        self._writer: FileWriter | None = None

    def close(self) -> None:
        """Close the target."""
        if self._writer is not None:
            self._writer.close()

    def run(self, job: memoryview) -> tuple[bytes, bytes | bytearray | memoryview]:
        """Return a report of files; or chunks, joined, with what is wrong with them as head."""
        todo, token, again = begin_job(job)
        report = FilesReport()
        try:
            piece = memoryview(self._opener.piece(todo.sealed, token))
        except IntegrityError as error:
            report.failure = failure_of(error)
            return encode_report(report), b""
        data = b""
        if isinstance(todo, ChunksJob):
            data = self._chunks(todo, piece, report)
        else:
            self._files(todo, piece, report, again=again)
        return encode_report(report), data

    def _chunks(self, job: ChunksJob, piece: memoryview, report: FilesReport) -> bytes:
        try:
            parts = [_checked(piece, *chunk) for chunk in job.chunks]
            if job.file is None:
                return b"".join(parts)
            self._write_chunks(job.file, parts, job.offset)
        except IntegrityError as error:
            report.damaged.append((0, failure_of(error)))
        except RestoreError as error:
            report.fatal = (0, _number(error), failure_of(error))
        return b""

    def _write_chunks(self, hidden: HiddenFile, parts: list[memoryview], offset: int) -> None:
        file = self._open().open_hidden(hidden.path, hidden.name, hidden.identity)
        try:
            with os_errors(hidden.path):
                for part in parts:
                    write_at(file, part, offset)
                    offset += len(part)
        finally:
            close_quietly(file)

    def _files(self, job: FilesJob, piece: memoryview, report: FilesReport, *, again: bool) -> None:
        try:
            writer = self._open()
        except RestoreError as error:
            report.fatal = (0, errno.ESTALE, failure_of(error))
            return
        replacing = frozenset(job.replacing)
        for place, entry in enumerate(job.entries):
            try:
                data = _content(piece, entry)
                if again and place not in replacing and writer.has_made(entry, data):
                    continue
                hidden = hidden_name(job.hidden, place)
                fill = partial(write_pieces, entry=entry, pieces=(data,))
                writer.write_hidden(entry, fill, hidden, publish=place not in replacing)
            except IntegrityError as error:
                report.damaged.append((place, failure_of(error)))
            except RestoreError as error:
                if is_about_all(error):
                    report.fatal = (place, _number(error), failure_of(error))
                    break
                report.refused.append((place, failure_of(error)))
        report.problems = writer.problems[:]
        writer.problems.clear()

    def _open(self) -> FileWriter:
        if self._writer is None:
            order = self._order
            self._writer = FileWriter(_open_target(order), set_owner=order.sets_owner)
        return self._writer


def _open_target(order: TargetOrder) -> int:
    """Return a descriptor of the target: that directory, not what has taken its place since.

    Raises:
        RestoreError: It is not there any more.
    """
    try:
        if order.process == os.getpid():
            return os.dup(order.descriptor)
        target = os.open(order.target, DIRECTORY_FLAGS)
    except OSError as error:
        raise restore_error(b"", error) from error
    status = os.fstat(target)
    if (status.st_dev, status.st_ino) != order.identity:
        os.close(target)
        raise RestoreError(f"{os.fsdecode(order.target)} is another directory by now")
    return target


def _number(error: RestoreError) -> int:
    cause = error.__cause__
    return (cause.errno if isinstance(cause, OSError) else None) or errno.EIO


def _content(piece: memoryview, entry: Entry) -> memoryview:
    """Return the content of ``entry``, compared with its digest."""
    _, _, offset, length = entry.extents[0]
    data = _part(piece, offset, length)
    if digest_of(data) != entry.digest:
        raise DigestError(f"the content of {path_text(entry.path)} is not what was saved")
    return data


def _checked(piece: memoryview, offset: int, length: int, digest: bytes) -> memoryview:
    part = _part(piece, offset, length)
    if digest_of(part) != digest:
        raise DigestError(CHUNK_DIFFERS)
    return part


def _part(piece: memoryview, offset: int, length: int) -> memoryview:
    if offset + length > len(piece):
        raise MalformedError("an extent reaches beyond its frame")
    return piece[offset : offset + length]


def make_file_work(data: bytes) -> FileWork:
    """Return what does the jobs for the target that ``data`` tells."""
    return FileWork(msgspec.msgpack.decode(data, type=TargetOrder))
