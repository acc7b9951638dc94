"""Directory trees: read into the page cache, counted, compared."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PIECE = 1 << 20


@dataclass(frozen=True)
class Size:
    """How much there is in a tree; directories count as entries, without bytes."""

    entries: int
    size: int  # bytes, as the files' lengths
    room: int  # bytes that the file system gives them


def walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything from ``top`` on, which is ``''``, with paths relative to it, sorted."""
    yield "", os.lstat(top)
    waiting = [""] if top.is_dir() else []
    while waiting:
        directory = waiting.pop()
        with os.scandir(top / directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = f"{directory}/{entry.name}" if directory else entry.name
            status = entry.stat(follow_symlinks=False)
            yield path, status
            if stat.S_ISDIR(status.st_mode):
                waiting.append(path)


def measured(top: Path) -> Size:
    """Return how much there is at ``top``: a directory or a file, nothing where nothing is."""
    entries = size = room = 0
    if top.exists():
        for _, status in walk(top):
            entries += 1
            room += status.st_blocks * 512
            if not stat.S_ISDIR(status.st_mode):
                size += status.st_size
    return Size(entries, size, room)


def warm(top: Path) -> None:
    """Read every file at ``top``, so that the next one who reads it finds it in memory."""
    if not top.exists():
        return
    for path, status in walk(top):
        if stat.S_ISREG(status.st_mode):
            with (top / path).open("rb", buffering=0) as file:
                while file.read(_PIECE):
                    pass


def difference(source: Path, restored: Path, *, contents: bool) -> str | None:
    """Return what the restored tree lacks of its source, or ``None``.

    Types, names, lengths, link targets and permissions; with ``contents`` every byte.
    """
    if not os.path.lexists(restored):
        return f"nothing was restored to {restored.name}"
    there = {path: _facts(restored / path, status) for path, status in walk(restored)}
    for path, status in walk(source):
        facts = there.pop(path, None)
        if facts is None:
            return f"{path} is missing in what was restored"
        if facts != _facts(source / path, status):
            return f"{path} was restored as something else"
        if contents and stat.S_ISREG(status.st_mode) and not _equal(source / path, restored / path):
            return f"{path} was restored with another content"
    return f"{next(iter(there))} was restored and never saved" if there else None


def _facts(path: Path, status: os.stat_result) -> tuple[int, int, str]:
    if stat.S_ISLNK(status.st_mode):
        return stat.S_IFLNK, 0, str(path.readlink())
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, size, ""


def _equal(one: Path, other: Path) -> bool:
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        while True:
            piece = left.read(_PIECE)
            if piece != right.read(_PIECE):
                return False
            if not piece:
                return True
