"""An independent account of a directory tree, to compare two trees with."""

from __future__ import annotations

import errno
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
    attributes: frozenset[tuple[str, bytes]] = frozenset()
    data: tuple[tuple[int, int], ...] = ()


_HUGE = 2**30
_KEPT = ("user.", "trusted.", "security.capability", "security.selinux", "system.posix_acl_")


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
        sha256=_sha256(path, status.st_size) if is_file else "",
        device=status.st_rdev,
        linked_names=frozenset(linked[status.st_dev, status.st_ino]),
        attributes=_attributes(path),
        data=_runs(path, status.st_size) if is_file else (),
    )


def _attributes(path: bytes) -> frozenset[tuple[str, bytes]]:
    return frozenset(
        (name, os.getxattr(path, name, follow_symlinks=False))
        for name in os.listxattr(path, follow_symlinks=False)
        if name.startswith(_KEPT)
    )


def _runs(path: bytes, size: int) -> tuple[tuple[int, int], ...]:
    """Return where the file has data, as (begin, end); one run where the system cannot tell."""
    runs, at = [], 0
    with Path(os.fsdecode(path)).open("rb") as file:
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            runs.append((begin, at))
    return tuple(runs)


def _sha256(path: bytes, size: int) -> str:
    """Return the digest of a file; of a huge one, that of its data alone and where it lies."""
    with Path(os.fsdecode(path)).open("rb") as file:
        if size < _HUGE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for begin, end in _runs(path, size):
            digest.update(b"%d\n%b" % (begin, os.pread(file.fileno(), end - begin, begin)))
        return digest.hexdigest()
