"""Searching the indexes of several snapshots at once: one merge, nothing read but their indexes."""

from __future__ import annotations

import heapq
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from itertools import groupby
from typing import NamedTuple

from backup.comparing import differing_fields
from backup.errors import IntegrityError
from backup.listing import StoredSnapshot
from backup.matching import ReadAt, file_has_content
from backup.model import Entry, EntryType, path_key
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.selection import select_segments

_GLOB = re.compile(r"[*?\[]")
_KEPT_SEGMENTS = 2048

Test = Callable[[SnapshotReader, Entry], bool]


class Searched(NamedTuple):
    """A snapshot to search, opened."""

    stored: StoredSnapshot
    reader: SnapshotReader


class Version(NamedTuple):
    """What some snapshots of a job, one after the other, have under a path.

    ``changed`` is in what it differs from the version before; ``gone_in`` the next snapshot of the
    job, where that does not have the path.
    """

    snapshots: tuple[StoredSnapshot, ...]
    entry: Entry
    changed: tuple[str, ...]
    gone_in: StoredSnapshot | None


class Found(NamedTuple):
    """A path that fits, and its versions, by job and from old to new."""

    path: bytes
    versions: tuple[Version, ...]


class Glob:
    """A pattern for paths.

    Without ``/`` it is for names, with ``/`` in front for whole paths, else for the last
    components. ``*`` stands for any characters, in patterns with ``/`` for that one too.
    """

    def __init__(self, glob: str, *, ignore_case: bool = False) -> None:
        glob = glob.rstrip("/") or "/"
        self._name_only = "/" not in glob
        anywhere = "" if self._name_only or glob.startswith("/") else "(?s:.*/)"
        flags = re.IGNORECASE if ignore_case else 0
        self._fits = re.compile(anywhere + translate(glob), flags).fullmatch

    def fits(self, path: bytes) -> bool:
        """Tell whether it fits ``path``, which is without its leading ``/``."""
        wanted = path.rpartition(b"/")[2] if self._name_only else b"/" + path
        return self._fits(os.fsdecode(wanted)) is not None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look for; all that is given has to fit. Sizes are bytes, times ns since 1970."""

    globs: tuple[Glob, ...] = ()
    tops: tuple[bytes, ...] = ()
    larger_than: int | None = None
    newer_than: int | None = None
    digest: bytes | None = None

    def fits(self, entry: Entry) -> bool:
        """Tell whether an entry fits, by what the index alone says."""
        if self.globs and not any(one.fits(entry.path) for one in self.globs):
            return False
        if self.larger_than is not None and not (
            entry.type is EntryType.FILE and entry.size > self.larger_than
        ):
            return False
        if self.newer_than is not None and entry.mtime_ns <= self.newer_than:
            return False
        return self.digest is None or (entry.digest == self.digest and has_plain_digest(entry))


def has_plain_digest(entry: Entry) -> bool:
    """Tell whether an entry's digest is that of its bytes; of large and sparse files it is not."""
    return not entry.chunk_lists and entry.data is None


def literal_top(glob: str) -> bytes:
    """Return the directory that all whole paths which fit begin with, empty where there is none."""
    if not glob.startswith("/"):
        return b""
    found = _GLOB.search(glob)
    literal = glob.rstrip("/") if found is None else glob[: found.start()].rpartition("/")[0]
    return os.fsencode(literal.lstrip("/"))


def wanted_for(
    globs: Sequence[str],
    *,
    ignore_case: bool = False,
    larger_than: int | None = None,
    newer_than: int | None = None,
    digest: bytes | None = None,
) -> Wanted:
    """Return what to look for; see ``Glob`` for ``globs``."""
    tops = () if ignore_case else tuple(literal_top(glob) for glob in globs)
    return Wanted(
        globs=tuple(Glob(glob, ignore_case=ignore_case) for glob in globs),
        tops=tops if all(tops) else (),
        larger_than=larger_than,
        newer_than=newer_than,
        digest=digest,
    )


def like_file(size: int, read_at: ReadAt) -> Test:
    """Return a test for entries that have the content of a file of ``size`` bytes."""
    known: dict[tuple[object, ...], bool] = {}

    def has_its_content(reader: SnapshotReader, entry: Entry) -> bool:
        if entry.type is not EntryType.FILE or entry.size != size or not entry.digest:
            return False
        mark = (entry.digest, entry.data, bool(entry.chunk_lists))
        if mark not in known:
            known[mark] = file_has_content(reader, entry, read_at)
        return known[mark]

    return has_its_content


class Search:
    """One search through several snapshots.

    Args:
        searched: The snapshots, by host and job, each job from old to new.
        wanted: What to look for.
        test: What a fitting entry has to pass besides.
    """

    def __init__(
        self, searched: Sequence[Searched], wanted: Wanted, test: Test | None = None
    ) -> None:
        self._searched = searched
        self._wanted = wanted
        self._test = test
        self._segments: OrderedDict[bytes, list[Entry]] = OrderedDict()
        self._broken: set[int] = set()
        self.problems: list[tuple[StoredSnapshot, IntegrityError]] = []
        """Snapshots whose index could not be read to its end, and why."""
        self.without_plain_digest = 0
        """How many files could not be looked at by their SHA-256: large ones and sparse ones."""

    def __iter__(self) -> Iterator[Found]:
        streams = [self._fitting(place) for place in range(len(self._searched))]
        merged = heapq.merge(*streams, key=_key)
        for _, group in groupby(merged, key=_key):
            held = list(group)
            yield Found(held[0][1].path, tuple(self._versions(dict(held))))

    def _fitting(self, place: int) -> Iterator[tuple[int, Entry]]:
        stored, reader = self._searched[place]
        try:
            for segment in select_segments(reader, self._wanted.tops):
                entries = self._segments.get(segment.digest)
                if entries is None:
                    entries = self._kept(segment.digest, reader.segment(segment))
                for entry in entries:
                    if self._test is None or self._test(reader, entry):
                        yield place, entry
        except IntegrityError as error:
            self._broken.add(place)
            self.problems.append((stored, error))

    def _kept(self, digest: bytes, entries: Sequence[Entry]) -> list[Entry]:
        """Return what fits of a segment, and keep it: other snapshots may share the segment."""
        fitting = [entry for entry in entries if self._wanted.fits(entry)]
        if self._wanted.digest is not None:
            self.without_plain_digest += sum(
                entry.type is EntryType.FILE and not has_plain_digest(entry) for entry in entries
            )
        self._segments[digest] = fitting
        if len(self._segments) > _KEPT_SEGMENTS:
            self._segments.popitem(last=False)
        return fitting

    def _versions(self, held: dict[int, Entry]) -> Iterator[Version]:
        """Yield what each job has under one path; ``held`` is by the places of snapshots."""
        for place in sorted(held):
            before = held.get(place - 1) if self._same_job(place - 1, place) else None
            if before is not None and not _differs(before, held[place]):
                continue
            run = [place]
            while self._same_job(place, run[-1] + 1) and (
                (after := held.get(run[-1] + 1)) is not None and not _differs(held[run[-1]], after)
            ):
                run.append(run[-1] + 1)
            behind = run[-1] + 1
            is_gone = self._same_job(place, behind) and behind not in {*held, *self._broken}
            yield Version(
                tuple(self._searched[one].stored for one in run),
                held[place],
                () if before is None else _differs(before, held[place]),
                self._searched[behind].stored if is_gone else None,
            )

    def _same_job(self, one: int, other: int) -> bool:
        if not (0 <= one < len(self._searched) and 0 <= other < len(self._searched)):
            return False
        first, second = self._searched[one].stored, self._searched[other].stored
        return (first.host, first.job) == (second.host, second.job)


def _key(held: tuple[int, Entry]) -> bytes:
    return path_key(held[1].path)


def _differs(old: Entry, new: Entry) -> tuple[str, ...]:
    """Return in what two entries differ, as far as the index tells."""
    if old.type is not new.type:
        return ("type",)
    content = (old.size, old.digest, old.data) != (new.size, new.digest, new.data)
    return (("content",) if content else ()) + differing_fields(old, new)
