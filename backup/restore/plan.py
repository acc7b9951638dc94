"""Planning a restore: what it would write, and what is in its way. Nothing is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.errors import RestoreError, UnsafePathError
from backup.locating import Located
from backup.model import Entry, EntryType, path_text
from backup.restore.tree_writer import check_path
from backup.snapshot.reader import SnapshotReader
from backup.snapshot.selection import select_entries

_TOLD = 5


@dataclass(frozen=True, kw_only=True)
class RestorePlan:
    """What a restore would do. ``paths`` are without leading ``/``; none mean everything.

    ``conflicts`` are paths below the target where something is already; ``incomplete`` are entries
    whose content the snapshot does not have, with the reason.
    """

    snapshot: Located
    target: Path
    paths: tuple[bytes, ...]
    entries: int
    files: int
    size: int
    conflicts: tuple[bytes, ...]
    incomplete: tuple[tuple[bytes, str], ...]


def plan_restore(
    reader: SnapshotReader, located: Located, target: Path, paths: Sequence[bytes]
) -> RestorePlan:
    """Return the plan to restore ``paths`` of an opened snapshot below ``target``."""
    occupied = _occupied(target)
    entries = files = size = 0
    conflicts: dict[bytes, None] = {}
    incomplete = []
    missing = set(paths)
    for entry in select_entries(reader, paths):
        entries += 1
        missing -= {path for path in missing if _is_within(entry.path, path)}
        if entry.type is EntryType.FILE:
            files += 1
            size += entry.size
        if entry.error:
            incomplete.append((entry.path, entry.error))
        in_the_way = _in_the_way(target, entry) if occupied else None
        if in_the_way is not None:
            conflicts[in_the_way] = None
    if missing:
        raise RestoreError(
            f"the snapshot does not hold {path_text(min(missing))}",
            hint="'auto-backup ls SNAPSHOT' lists what it holds",
        )
    return RestorePlan(
        snapshot=located,
        target=target,
        paths=tuple(paths),
        entries=entries,
        files=files,
        size=size,
        conflicts=tuple(conflicts),
        incomplete=tuple(incomplete),
    )


def refuse_conflicts(plan: RestorePlan) -> None:
    """Raise ``RestoreError`` where the plan would meet something that exists."""
    if not plan.conflicts:
        return
    told = ", ".join(path_text(path) for path in plan.conflicts[:_TOLD])
    more = len(plan.conflicts) - _TOLD
    raise RestoreError(
        f"{plan.target} already has {told}" + (f" and {more} more" if more > 0 else ""),
        hint="nothing has been changed; restore into an empty directory",
    )


def entry_path(path: str | bytes | os.PathLike[str]) -> bytes:
    """Return a path as a user types it in the form of ``Entry.path``.

    Raises:
        UnsafePathError: It leads elsewhere than below the root.
    """
    raw = os.path.normpath(os.fsencode(path)).lstrip(b"/")
    wanted = b"" if raw == b"." else raw
    try:
        check_path(wanted)
    except UnsafePathError:
        raise UnsafePathError(
            f"{os.fsdecode(path)!r} is not a path that a snapshot can hold",
            hint="paths are as 'auto-backup ls' tells them",
        ) from None
    return wanted


def _occupied(target: Path) -> bool:
    try:
        with os.scandir(target) as names:
            return next(names, None) is not None
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RestoreError(f"cannot restore to {target}: {error.strerror}") from error


def _is_within(path: bytes, directory: bytes) -> bool:
    return not directory or path == directory or path.startswith(directory + b"/")


def _in_the_way(target: Path, entry: Entry) -> bytes | None:
    """Return the first path on the way to ``entry``, or its own, where it cannot be made."""
    names = entry.path.split(b"/") if entry.path else []
    for depth in range(1, len(names) + 1):
        path = b"/".join(names[:depth])
        try:
            mode = os.lstat(os.fsencode(target) + b"/" + path).st_mode
        except OSError:
            return None  # there is nothing, or it shows when it comes to that
        merges = depth < len(names) or entry.type is EntryType.DIRECTORY
        if not (merges and stat.S_ISDIR(mode)):
            return path
    return None
