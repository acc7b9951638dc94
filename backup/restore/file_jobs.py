"""What a worker of a restore is told and tells: files of one frame to write, or chunks to give."""

from __future__ import annotations

import msgspec

from backup.model import Entry
from backup.pool.messages import Failure
from backup.snapshot.frame_jobs import SealedPiece, join_job, split_job

CHUNK_DIFFERS = "a chunk is not what was saved"


class TargetOrder(msgspec.Struct, array_like=True):
    """Where workers write: a directory, which file it must be, and who has it open already."""

    target: bytes
    identity: tuple[int, int]
    process: int
    descriptor: int
    sets_owner: bool | None


class FilesJob(msgspec.Struct, array_like=True, tag="files"):
    """Whole files of one frame; ``hidden`` begins their hidden names, each ends with its place.

    Those of ``replacing``, places among ``entries``, stay hidden.
    """

    sealed: SealedPiece
    hidden: bytes
    entries: list[Entry]
    replacing: list[int]


class HiddenFile(msgspec.Struct, array_like=True):
    """A file that is being written: beside which path, under which name, and which it is."""

    path: bytes
    name: bytes
    identity: tuple[int, int]


class ChunksJob(msgspec.Struct, array_like=True, tag="chunks"):
    """Chunks of a large file that lie in one frame: offset, length and SHA-256 of each.

    They go to ``file`` at ``offset``, or, where that is ``None``, back as they are.
    """

    sealed: SealedPiece
    chunks: list[tuple[int, int, bytes]]
    file: HiddenFile | None = None
    offset: int = 0


class FilesReport(msgspec.Struct, array_like=True):
    """What became of files, or of chunks of one, which is then at place 0.

    ``failure`` is what is wrong with the frame, so that nothing was written; else ``damaged`` and
    ``refused`` tell the places of those that were not written, and ``problems`` are paths with what
    could not be done to them. ``fatal`` is what would refuse all others too, with the system's
    number for it: no file from that place on was written.
    """

    failure: Failure | None = None
    damaged: list[tuple[int, Failure]] = []
    refused: list[tuple[int, Failure]] = []
    problems: list[tuple[bytes, str]] = []
    fatal: tuple[int, int, Failure] | None = None


_encoder = msgspec.msgpack.Encoder()
_job_decoder = msgspec.msgpack.Decoder(FilesJob | ChunksJob)
_report_decoder = msgspec.msgpack.Decoder(FilesReport)


def hidden_name(start: bytes, place: int) -> bytes:
    """Return the hidden name of the file at ``place`` of a job; its form is ``partial_name``'s."""
    return b".auto-backup-%s%04x.partial" % (start, place)


def encode_job(job: FilesJob | ChunksJob, token: memoryview) -> bytes:
    """Return ``job``, for the frame whose token it is, as bytes."""
    return join_job(_encoder.encode(job), token)


def begin_job(data: memoryview) -> tuple[FilesJob | ChunksJob, memoryview, bool]:
    """Return the job in ``data``, its token, and whether somebody has begun it before."""
    order, token, again = split_job(data)
    return _job_decoder.decode(order), token, again


def encode_report(report: FilesReport) -> bytes:
    """Return ``report`` as bytes."""
    return _encoder.encode(report)


def decode_report(data: bytes | memoryview) -> FilesReport:
    """Return the report that ``encode_report`` was given."""
    return _report_decoder.decode(data)
