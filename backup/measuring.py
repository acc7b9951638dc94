"""How large snapshots are, and what takes the room."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from backup.model import Entry, EntryType
from backup.snapshot.frame import Section
from backup.snapshot.reader import SnapshotReader

_BIGGEST = 10
_LONGEST_EXTENSION = 12
_DAY_SECONDS = 86_400


class Taken(NamedTuple):
    """One snapshot of a job: its file's size, what it holds; all in bytes."""

    time: datetime
    stored: int
    entries: int
    source: int


@dataclass(frozen=True, kw_only=True)
class JobFigures:
    """What the snapshots of a job come to. Entries and source bytes are those of the newest one.

    ``ratio`` is how many bytes of contents one stored byte stands for; ``growth`` is bytes of
    contents a day, ``None`` where there is less than a day to tell it from.
    """

    snapshots: int
    entries: int
    source: int
    stored: int
    average: int
    ratio: float
    growth: float | None
    oldest: datetime
    newest: datetime


def measure_job(taken: Sequence[Taken]) -> JobFigures:
    """Return the figures of a job with the snapshots ``taken``, from old to new, at least one."""
    first, last = taken[0], taken[-1]
    stored = sum(one.stored for one in taken)
    days = (last.time - first.time).total_seconds() / _DAY_SECONDS
    return JobFigures(
        snapshots=len(taken),
        entries=last.entries,
        source=last.source,
        stored=stored,
        average=stored // len(taken),
        ratio=ratio(sum(one.source for one in taken), stored),
        growth=(last.source - first.source) / days if days >= 1 else None,
        oldest=first.time,
        newest=last.time,
    )


def ratio(plain: int, stored: int) -> float:
    """Return how many plain bytes one stored byte stands for; 0 where nothing is stored."""
    return plain / stored if stored else 0.0


@dataclass
class Amount:
    """How many, and how many bytes."""

    count: int = 0
    size: int = 0

    def add(self, size: int) -> None:
        """Count one more."""
        self.count += 1
        self.size += size


class SectionFigures(NamedTuple):
    """Frames of one section: how many, their pieces' bytes, the bytes they take in the file."""

    frames: int
    plain: int
    stored: int


@dataclass(kw_only=True)
class SnapshotFigures:
    """What one snapshot holds, and what its file consists of.

    ``sizes`` are files by the power of two that their size is below; every name of a hard-linked
    file is an entry, its bytes count once. ``elsewhere`` are bytes that lie in other snapshots.
    ``sealing`` is the rest of the file: header, end, footer.
    """

    file_size: int
    types: Counter[EntryType] = field(default_factory=Counter)
    files: Amount = field(default_factory=Amount)
    sizes: dict[int, Amount] = field(default_factory=dict)
    extensions: dict[str, Amount] = field(default_factory=dict)
    biggest: list[tuple[int, bytes]] = field(default_factory=list)
    holes: int = 0
    elsewhere: int = 0
    incomplete: int = 0
    sections: dict[Section, SectionFigures] = field(default_factory=dict)

    @property
    def sealing(self) -> int:
        """Bytes of the file that belong to no frame of the table."""
        return self.file_size - sum(one.stored for one in self.sections.values())


def measure_snapshot(reader: SnapshotReader) -> SnapshotFigures:
    """Return the figures of a snapshot, reading its index and nothing else.

    Raises:
        IntegrityError: The index cannot be read.
    """
    figures = SnapshotFigures(file_size=reader.source.size, sections=_sections(reader))
    seen: set[tuple[int, int]] = set()
    for entry in reader.entries():
        figures.types[entry.type] += 1
        figures.incomplete += bool(entry.error)
        if entry.type not in {EntryType.FILE, EntryType.STREAM}:
            continue
        if entry.links > 1:
            identity = (entry.filesystem, entry.inode)
            if identity in seen:
                continue
            seen.add(identity)
        _count_file(figures, entry)
        if reader.record.referred:
            figures.elsewhere += _elsewhere(reader, entry)
    figures.biggest.sort(reverse=True)
    return figures


def _count_file(figures: SnapshotFigures, entry: Entry) -> None:
    figures.files.add(entry.size)
    figures.sizes.setdefault(entry.size.bit_length(), Amount()).add(entry.size)
    figures.extensions.setdefault(extension(entry.path), Amount()).add(entry.size)
    figures.holes += entry.size - entry.stored_size
    heapq.heappush(figures.biggest, (entry.size, entry.path))
    if len(figures.biggest) > _BIGGEST:
        heapq.heappop(figures.biggest)


def _elsewhere(reader: SnapshotReader, entry: Entry) -> int:
    extents = (*entry.extents, *(chunk.extent for chunk in reader.chunks(entry)))
    return sum(one.length for one in extents if one.snapshot != reader.core.id)


def extension(path: bytes) -> str:
    """Return the extension of a file's name in small letters, ``""`` where there is none."""
    name = path.rpartition(b"/")[2]
    stem, dot, last = name.rpartition(b".")
    text = last.decode("utf-8", "backslashreplace").lower()
    return text if dot and stem.strip(b".") and 0 < len(text) <= _LONGEST_EXTENSION else ""


def _sections(reader: SnapshotReader) -> dict[Section, SectionFigures]:
    found: dict[Section, SectionFigures] = {}
    for row in reader.rows:
        if row.section is Section.ABSENT:
            continue
        before = found.get(row.section, SectionFigures(0, 0, 0))
        stored = before.stored + 4 + row.length
        found[row.section] = SectionFigures(before.frames + 1, before.plain + row.plain, stored)
    return found
