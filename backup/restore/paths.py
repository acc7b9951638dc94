"""Paths as entries have them: relative, without anything that leads elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator

from backup.errors import UnsafePathError
from backup.model import PLAIN_PATH, path_text

_NAME_BYTES = 255
_MOST_NAMES = 4096  # a path that the system takes at once has at most half as many


def check_path(path: bytes) -> None:
    """Check that ``path`` names something below the target, or is empty: the target itself.

    Raises:
        UnsafePathError: It is absolute, or has a component that is empty, ``.`` or ``..``, holds
            NUL, or is longer than 255 bytes, or has more than 4,096 of them.
    """
    if not path or (len(path) < _MOST_NAMES and PLAIN_PATH.fullmatch(path)):
        return
    if path.count(b"/") >= _MOST_NAMES:
        start = path_text(path[:50])
        raise UnsafePathError(
            f"cannot restore '{start}…': more than {_MOST_NAMES} directories deep"
        )
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or b"\0" in name or len(name) > _NAME_BYTES:
            raise UnsafePathError(f"cannot restore {path_text(path)!r}: {_flaw(name)}")


def _flaw(name: bytes) -> str:
    if len(name) > _NAME_BYTES:
        return f"a component is longer than {_NAME_BYTES} bytes"
    return f"{path_text(name)[1:]!r} is not the name of a file"


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


def paths_above(path: bytes) -> Iterator[bytes]:
    """Yield ``path`` and every directory above it; the last one is the empty path."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]
    yield b""
