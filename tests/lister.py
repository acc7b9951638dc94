"""An independent account of a directory tree, to compare two trees with."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """What one name of a tree must have in common with its restored twin."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: bytes
    sha256: str
    device: int
    linked_names: frozenset[bytes]


def listing(root: str | bytes | Path) -> dict[bytes, Row]:
    """Return a row for each name below ``root``, by its path relative to it.

    ``root`` itself has the empty path. ``linked_names`` are all names of one file in the tree.
    """
    top = os.fsencode(root)
    paths = _paths(top)
    linked: dict[tuple[int, int], set[bytes]] = {}
    for relative, path in paths.items():
        status = os.lstat(path)
        linked.setdefault((status.st_dev, status.st_ino), set()).add(relative)
    return {relative: _row(path, linked) for relative, path in paths.items()}


def _paths(top: bytes) -> dict[bytes, bytes]:
    paths = {b"": top}
    for directory, directories, files in os.walk(top, onerror=_refuse):
        for name in directories + files:
            path = os.path.join(directory, name)  # noqa: PTH118 - pathlib knows no bytes
            paths[os.path.relpath(path, top)] = path
    return paths


def _refuse(error: OSError) -> None:
    raise error


def _row(path: bytes, linked: dict[tuple[int, int], set[bytes]]) -> Row:
    status = os.lstat(path)
    is_file = stat.S_ISREG(status.st_mode)
    is_link = stat.S_ISLNK(status.st_mode)
    return Row(
        type=stat.filemode(status.st_mode)[0],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if is_file else 0,
        mtime_ns=status.st_mtime_ns,
        target=os.readlink(path) if is_link else b"",  # noqa: PTH115 - pathlib tidies targets
        sha256=_sha256(path) if is_file else "",
        device=status.st_rdev,
        linked_names=frozenset(linked[status.st_dev, status.st_ino]),
    )


def _sha256(path: bytes) -> str:
    with Path(os.fsdecode(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
