"""Comparing the contents of all entries with their digests, frame by frame, in worker processes.

What has to be compared is held as packed numbers, some 60 bytes each; who it belongs to is looked
up in the index again where something is wrong, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from types import TracebackType
from typing import NamedTuple, Self

from backup.errors import DigestError, IntegrityError, MalformedError
from backup.model import Entry, Extent, path_text
from backup.pool.pool import Result
from backup.pool.slots import SlotSize
from backup.snapshot.content import read_content
from backup.snapshot.frame import Section
from backup.snapshot.frame_checks import (
    JOB_BYTES,
    MOST_ROWS,
    RESULT_BYTES,
    ROW,
    check_job,
    decode_findings,
)
from backup.snapshot.frame_groups import FramePlace, Groups
from backup.snapshot.frame_jobs import (
    FrameQueue,
    diagnose,
    sealed_piece,
)
from backup.snapshot.reader import SnapshotReader

_MOST_HELD = 250_000
_WHOLE = 2**32 - 1
"""A place in a content that is behind all of its parts."""

_BEYOND, _CHUNK, _CONTENT = "beyond", "chunk", "content"


class _Fault(NamedTuple):
    """The first thing that is wrong with an entry: at which part of its content, and what."""

    at: int
    what: str | IntegrityError
    frame: FramePlace | None = None


class ContentCheck:
    """Compares the contents of a snapshot's entries.

    Args:
        reader: The snapshot.
        workers: How many processes; ``None`` for what the machine allows.
        on_frame: Is told the number of each frame of the snapshot's own file that has been opened.

    Every method may raise ``StorageError``, or ``WorkerError`` where a worker was killed twice.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        *,
        workers: int | None = None,
        on_frame: Callable[[int], object],
    ) -> None:
        self._reader = reader
        self._on_frame = on_frame
        room = SlotSize(JOB_BYTES, RESULT_BYTES)
        factory = "backup.snapshot.frame_checks:make_check_work"
        self._queue = FrameQueue(reader, factory, b"", room=room, workers=workers)
        self._groups: Groups[bytes] = Groups(
            most_held=_MOST_HELD, most_together=MOST_ROWS, most_bytes=JOB_BYTES
        )
        self._entries = 0
        self._faults: dict[int, _Fault] = {}
        self._broken: dict[FramePlace, IntegrityError] = {}
        self._blamed: set[FramePlace] = set()
        self._missing: dict[bytes, IntegrityError] = {}
        self.bytes = 0
        """How many bytes of content have been compared."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._queue.close()

    def skip(self) -> None:
        """Pass over the next entry of the index: its content is that of an earlier one."""
        self._entries += 1

    def add(self, entry: Entry) -> None:
        """Have the content of ``entry``, the next one of the index, compared some time."""
        number = self._entries
        self._entries += 1
        if entry.chunk_lists:
            self._add_chunks(number, entry)
        elif len(entry.extents) == 1 and entry.digest:
            self._add_row(entry.extents[0], entry.digest, number, 0)
        elif entry.extents or entry.digest:
            self._compare_here(number, entry)

    def _add_chunks(self, number: int, entry: Entry) -> None:
        whole, total, part = sha256(), 0, 0
        try:
            for part, (digest, extent) in enumerate(self._reader.chunks(entry)):
                self._add_row(extent, digest, number, min(part, _WHOLE - 1))
                whole.update(digest)
                total += extent.length
        except IntegrityError as error:
            self._note(number, _Fault(part + 1, error))
            return
        differs = bool(entry.digest) and whole.digest() != entry.digest
        if differs or (total != entry.stored_size and not entry.error):
            self._note(number, _Fault(_WHOLE, _CONTENT))

    def _compare_here(self, number: int, entry: Entry) -> None:
        """Compare what is empty, or lies in several frames, or has no digest."""
        try:
            for data in read_content(self._reader, entry):
                self.bytes += len(data)
        except IntegrityError as error:
            self._note(number, _Fault(0, error))

    def _add_row(self, extent: Extent, digest: bytes, number: int, part: int) -> None:
        row = ROW.pack(extent.offset, extent.length, digest, number, part)
        for group in self._groups.add(FramePlace(extent.snapshot, extent.frame), row, len(row)):
            self._submit(group.place, b"".join(group.items))

    def _submit(self, place: FramePlace, rows: bytes, section: Section = Section.ARCHIVE) -> None:
        try:
            reader = self._snapshot(place.snapshot)
            reader.row(section, place.number)
        except IntegrityError as error:
            self._note_all(rows, error)
            return
        try:
            sealed, token = sealed_piece(reader, section, place.number)
        except IntegrityError as error:
            self._break(place, rows, error)
            return
        done = partial(self._take, reader, section, place, rows)
        self._queue.submit(check_job(sealed, token, rows), done, cost=sealed.plain)

    def _snapshot(self, snapshot: bytes) -> SnapshotReader:
        """Return the reader of a snapshot; what is missing is looked for once."""
        if snapshot in self._missing:
            raise self._missing[snapshot]
        try:
            return self._reader.snapshot(snapshot)
        except IntegrityError as error:
            self._missing[snapshot] = error
            raise

    def _take(
        self,
        reader: SnapshotReader,
        section: Section,
        place: FramePlace,
        rows: bytes,
        result: Result,
    ) -> None:
        """Take in what a worker found in a frame."""
        findings = decode_findings(result.head)
        if findings.failure is not None:
            self._break(place, rows, diagnose(reader, section, place.number, findings.failure))
            return
        self._tell(place)
        for number in findings.beyond:
            self._note_row(rows, number, _BEYOND)
        for number in findings.differing:
            self._note_row(rows, number, _CHUNK)
        beyond = frozenset(findings.beyond)
        lengths = (row[1] for row in ROW.iter_unpack(rows))
        self.bytes += sum(size for n, size in enumerate(lengths) if n not in beyond)

    def _tell(self, place: FramePlace) -> None:
        if place.snapshot == self._reader.core.id:
            self._on_frame(place.number)

    def _break(self, place: FramePlace, rows: bytes, error: IntegrityError) -> None:
        self._tell(place)
        self._broken[place] = error
        self._note_all(rows, error, place)

    def _note_all(
        self, rows: bytes, error: IntegrityError, place: FramePlace | None = None
    ) -> None:
        for _, _, _, number, part in ROW.iter_unpack(rows):
            self._note(number, _Fault(part, error, place))

    def _note_row(self, rows: bytes, number: int, what: str) -> None:
        _, _, _, entry, part = ROW.unpack_from(rows, number * ROW.size)
        self._note(entry, _Fault(part, what))

    def _note(self, number: int, fault: _Fault) -> None:
        known = self._faults.get(number)
        if known is None or fault.at < known.at:
            self._faults[number] = fault

    def finish(self) -> Iterator[tuple[Entry, IntegrityError]]:
        """Yield each entry whose content is damaged, in order, with what is wrong with it."""
        for group in self._groups.rest():
            self._submit(group.place, b"".join(group.items))
        self._queue.drain()
        first = 0
        for reference in self._reader.segments() if self._faults else ():
            numbers = range(first, first + reference.entries)
            first = numbers.stop
            wrong = [number for number in numbers if number in self._faults]
            entries = self._reader.segment(reference) if wrong else []
            for number in wrong:
                fault, entry = self._faults.pop(number), entries[number - numbers.start]
                if fault.frame is not None:
                    self._blamed.add(fault.frame)
                yield entry, _as_error(fault.what, entry)
            if not self._faults:
                return

    def open_others(self, numbers: Iterable[int]) -> list[IntegrityError]:
        """Open more frames of the snapshot's own file; return what is wrong with any of them.

        What has been told of an entry is not told again.
        """
        own = self._reader.core.id
        for number in numbers:
            self._submit(FramePlace(own, number), b"", self._reader.rows[number].section)
        self._queue.drain()
        return [
            error
            for place, error in sorted(self._broken.items(), key=_place_of)
            if place.snapshot == own and place not in self._blamed
        ]


def _as_error(what: str | IntegrityError, entry: Entry) -> IntegrityError:
    if isinstance(what, IntegrityError):
        return type(what)(what.message, hint=what.hint)  # each entry's is named after it
    if what == _BEYOND:
        return MalformedError("an extent reaches beyond its frame")
    part = "a chunk" if entry.chunk_lists and what == _CHUNK else "the content"
    return DigestError(f"{part} of {path_text(entry.path)} is not what was saved")


def _place_of(item: tuple[FramePlace, IntegrityError]) -> FramePlace:
    return item[0]
