"""Checking what lies in a frame against its digests, in a worker: rows in, numbers of rows out."""

from __future__ import annotations

import struct

import msgspec

from backup.errors import IntegrityError
from backup.pool.messages import Failure
from backup.snapshot.frame_jobs import (
    PieceOpener,
    SealedPiece,
    failure_of,
    join_job,
    split_job,
)
from backup.snapshot.token import digest_of

ROW = struct.Struct("=II32sQI")
"""Offset and length in bytes within the piece, the SHA-256 that they must have; and whose they are:
the number of an entry, and of a part of its content."""

MOST_ROWS = 8192
JOB_BYTES = MOST_ROWS * ROW.size + 16384
RESULT_BYTES = MOST_ROWS * 16 + 16384


class FrameChecks(msgspec.Struct, array_like=True):
    """A frame, and what must lie in it: ``ROW`` after ``ROW``."""

    sealed: SealedPiece
    rows: bytes


class FrameFindings(msgspec.Struct, array_like=True):
    """What is wrong: with the frame as a whole, or with the rows of these places.

    ``beyond`` reach over the end of the piece, ``differing`` have another digest.
    """

    failure: Failure | None = None
    beyond: list[int] = []
    differing: list[int] = []


_checks_decoder = msgspec.msgpack.Decoder(FrameChecks)
_findings_decoder = msgspec.msgpack.Decoder(FrameFindings)


def check_job(sealed: SealedPiece, token: memoryview, rows: bytes) -> bytes:
    """Return the job of checking ``rows`` of a frame."""
    return join_job(msgspec.msgpack.encode(FrameChecks(sealed, rows)), token)


def decode_findings(data: bytes | memoryview) -> FrameFindings:
    """Return what a job found."""
    return _findings_decoder.decode(data)


class CheckWork:
    """Opens frames and compares digests; see ``backup.pool``."""

    def __init__(self) -> None:
        self._opener = PieceOpener()

    def run(self, job: memoryview) -> tuple[bytes, bytes]:
        """Return what is wrong with a frame; damage is data, not an error."""
        order, token, _ = split_job(job)
        checks = _checks_decoder.decode(order)
        try:
            piece = self._opener.piece(checks.sealed, token)
        except IntegrityError as error:
            return msgspec.msgpack.encode(FrameFindings(failure_of(error))), b""
        return msgspec.msgpack.encode(_compare(piece, checks.rows)), b""

    def close(self) -> None:
        """Keep nothing."""


def _compare(piece: bytes, rows: bytes) -> FrameFindings:
    beyond, differing = [], []
    view, size = memoryview(piece), len(piece)
    for number, (offset, length, digest, _, _) in enumerate(ROW.iter_unpack(rows)):
        end = offset + length
        if end > size:
            beyond.append(number)
        elif digest_of(view[offset:end]) != digest:
            differing.append(number)
    return FrameFindings(None, beyond, differing)


def make_check_work(_: bytes) -> CheckWork:
    """Return what does such jobs."""
    return CheckWork()
