"""Frame jobs and what they give, as bytes: they cross from one process to another."""

from __future__ import annotations

import msgspec

from backup.manager.plan import FrameJob, Member, Range
from backup.model import Chunk, Entry


class RangeOutcome(msgspec.Struct, array_like=True, frozen=True):
    """What a run of chunks of a large file became."""

    chunks: tuple[Chunk, ...]
    is_last: bool
    racy: bool
    error: str


class FrameReport(msgspec.Struct, array_like=True):
    """What became of the items of a job.

    ``lines`` are those of the index, one for each item, in order; an item that only the whole
    snapshot can tell about has an empty one, and stands in ``entries`` with its place. ``cuts``
    are the places before which a path's hash ends a segment; ``content`` has a byte for each line
    that is not empty, 1 where it names content of this snapshot. ``files`` and ``size``, in bytes,
    count what has lines, ``problems`` are its errors. A run of a large file has no lines.
    ``quicker`` is how many times as fast zstd would have been, where that was tried.
    """

    plain: int
    lines: list[bytes] = []
    cuts: list[int] = []
    content: bytearray = bytearray()
    entries: list[tuple[int, Entry]] = []
    files: int = 0
    size: int = 0
    problems: list[tuple[bytes, str]] = []
    range: RangeOutcome | None = None
    quicker: float = 0.0


class _Job(msgspec.Struct, array_like=True, gc=False):
    number: int
    entries: list[Entry]
    links: list[tuple[int, bytes]]
    offset: int = 0
    lengths: tuple[int, ...] = ()


class WorkOrder(msgspec.Struct, array_like=True):
    """What a worker has to know of the snapshot. ``data_key`` is secret."""

    core: bytes
    data_key: bytes
    level: int


_encoder = msgspec.msgpack.Encoder()
_job_decoder = msgspec.msgpack.Decoder(_Job)
_report_decoder = msgspec.msgpack.Decoder(FrameReport)


def encode_job(job: FrameJob) -> bytes:
    """Return ``job`` as bytes."""
    first = job.items[0]
    if isinstance(first, Range):
        wire = _Job(job.number, [first.entry], [], first.offset, first.lengths)
    else:
        entries, links = [], []
        for place, item in enumerate(job.items):
            entries.append(item.entry)
            if isinstance(item, Member) and item.hardlink_to is not None:
                links.append((place, item.hardlink_to))
        wire = _Job(job.number, entries, links)
    return _encoder.encode(wire)


def decode_job(data: memoryview) -> FrameJob:
    """Return the job that ``encode_job`` was given."""
    wire = _job_decoder.decode(data)
    if wire.lengths:
        return FrameJob(wire.number, (Range(wire.entries[0], wire.offset, wire.lengths),))
    items: list[Member | Range] = [Member(entry) for entry in wire.entries]
    for place, path in wire.links:
        items[place] = Member(wire.entries[place], path)
    return FrameJob(wire.number, tuple(items))


def encode_report(report: FrameReport) -> bytes:
    """Return ``report`` as bytes."""
    return _encoder.encode(report)


def decode_report(data: bytes | memoryview) -> FrameReport:
    """Return the report that ``encode_report`` was given."""
    return _report_decoder.decode(data)
