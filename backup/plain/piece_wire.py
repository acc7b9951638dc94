"""Pieces of an archive on their way between processes: to be made, and to be tested."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

import msgspec

from backup.plain.formats import Format
from backup.plain.zip_records import ZipMember

_HEAD = struct.Struct("=BI")
_encoder = msgspec.msgpack.Encoder()


class Shape(IntEnum):
    """What a piece is.

    ``TAR``: a run of the tar stream, compressed alone. ``MEMBERS``: whole members of a zip file.
    ``RUN``, ``LAST_RUN``: a part of the packed bytes of one large member, the last one among them.
    """

    TAR = 0
    MEMBERS = 1
    RUN = 2
    LAST_RUN = 3


class Order(msgspec.Struct, array_like=True):
    """What a worker has to know of an archive.

    ``start``: how many bytes of a path are not part of the name.
    """

    format: Format
    level: int
    start: int
    capacity: int


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """A piece as it was made: how many bytes it takes, how many are in it, and their digest."""

    shape: Shape
    length: int
    plain: int
    digest: bytes


class PieceReport(msgspec.Struct, array_like=True):
    """What became of a job.

    ``members``: those of a zip file, where a whole one begins counted from the piece's beginning.
    ``crc``: of a run. ``lost``: hard-linked files, by file system and inode, of which the name that
    was to bring the content could not be read.
    """

    piece: Piece = Piece(Shape.TAR, 0, 0, b"")
    members: list[ZipMember] = []
    crc: int = 0
    entries: int = 0
    files: int = 0
    size: int = 0
    problems: list[tuple[bytes, str]] = []
    lost: list[tuple[int, int]] = []


class Task(NamedTuple):
    """A job: frames to make, or a piece to test with its bytes."""

    piece: Piece | None
    data: memoryview


_report_decoder = msgspec.msgpack.Decoder(PieceReport)
_piece_decoder = msgspec.msgpack.Decoder(Piece)


def making(job: bytes) -> bytes:
    """Return the job of making a piece of what ``frame_wire.encode_job`` gave."""
    return _HEAD.pack(0, 0) + job


def testing(piece: Piece, data: bytes) -> bytes:
    """Return the job of testing a piece."""
    head = _encoder.encode(piece)
    return b"".join((_HEAD.pack(1, len(head)), head, data))


def decode_task(job: memoryview) -> Task:
    """Return what ``making`` or ``testing`` was given."""
    is_test, length = _HEAD.unpack_from(job)
    behind = job[_HEAD.size :]
    piece = _piece_decoder.decode(behind[:length]) if is_test else None
    return Task(piece, behind[length:])


def encode_report(report: PieceReport) -> bytes:
    """Return ``report`` as bytes."""
    return _encoder.encode(report)


def decode_report(data: bytes | memoryview) -> PieceReport:
    """Return the report that ``encode_report`` was given."""
    return _report_decoder.decode(data)
