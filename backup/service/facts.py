"""What is on this machine that decides whether a service can do its work; nothing is decided."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from backup.config.survey import parse_mounts
from backup.environment import search_path
from backup.manager.recovery_files import README_NAME, RECOVER_NAME
from backup.snapshot.names import DIGEST_SUFFIX, KEYS_SUFFIX, SUFFIX, TRASH_SUFFIX, parse_name
from backup.storage.local_writer import is_partial

_MOUNTS = Path("/proc/self/mountinfo")
_FUSE_USER = re.compile(r"(?:^|,)user_id=(\d+)")
_SUFFIXES = (DIGEST_SUFFIX, KEYS_SUFFIX, TRASH_SUFFIX)
_LOST = "lost+found"


class MountFact(NamedTuple):
    """What is mounted; ``user`` is whose a FUSE mount is where it is for that user alone."""

    path: Path
    type: str
    user: int | None = None


class PathFact(NamedTuple):
    """A file or directory: ``open``, for all to reach and read; ``runs``, for all to start.

    ``refused`` tells that this process may not read it, whatever its mode says.
    """

    path: Path
    exists: bool = True
    owner: int = 0
    open: bool = True
    runs: bool = True
    refused: bool = False


class StoreFact(NamedTuple):
    """The directory of a store.

    Args:
        path: Where it is.
        exists: Whether it is there.
        parent: Whether the directory is there in which it lies, or would be made.
        owners: Of it and all that is in it.
        strange: Something in it that is no part of a store.
        read_only: Whether it is mounted for reading alone.
    """

    path: Path
    exists: bool = True
    parent: bool = True
    owners: frozenset[int] = frozenset()
    strange: Path | None = None
    read_only: bool = False


class Facts(NamedTuple):
    """All that was found."""

    stores: dict[Path, StoreFact]
    paths: dict[Path, PathFact]
    mounts: tuple[MountFact, ...] = ()


def gather(stores: Sequence[Path], paths: Sequence[Path]) -> Facts:
    """Look at the directories of stores, and at other paths."""
    return Facts(
        {one: look_at_store(one) for one in stores},
        {one: look_at(one) for one in paths},
        tuple(read_mounts()),
    )


def read_mounts(file: Path = _MOUNTS) -> Iterator[MountFact]:
    """Yield what is mounted, later ones behind those that they hide."""
    with suppress(OSError):
        text = file.read_text("utf-8", "surrogateescape")
        for line in text.splitlines():
            options = line.partition(" - ")[2].split(" ")[-1]
            user = _FUSE_USER.search(options)
            for mount in parse_mounts(line):
                alone = mount.type.startswith("fuse") and "allow_other" not in options.split(",")
                owner = int(user[1]) if user and alone else None
                yield MountFact(Path(mount.path), mount.type, owner)


def look_at(path: Path) -> PathFact:
    """Return what is known of one path, links followed."""
    try:
        real = path.resolve()
        status = real.stat()
    except (OSError, RuntimeError):
        return PathFact(path, exists=os.path.lexists(path), open=False, runs=False, refused=True)
    bits = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else 0)
    reach = all(_mode(one) & stat.S_IXOTH for one in real.parents)
    return PathFact(
        path,
        owner=status.st_uid,
        open=reach and status.st_mode & bits == bits,
        runs=reach and bool(status.st_mode & stat.S_IXOTH),
        refused=not os.access(real, os.R_OK),
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def look_at_store(path: Path) -> StoreFact:
    """Return what is known of a store's directory; what cannot be seen is not counted."""
    try:
        top = path.stat()
        read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        parent = os.path.isdir(path.parent)  # noqa: PTH112 - never raises
        return StoreFact(path, exists=os.path.lexists(path), parent=parent)
    owners, strange = {top.st_uid}, None if stat.S_ISDIR(top.st_mode) else path
    for one in _below(path):
        with suppress(OSError):
            status = one.lstat()
            owners.add(status.st_uid)
            strange = strange or (None if _is_ours(one, path, status, top.st_dev) else one)
    return StoreFact(path, owners=frozenset(owners), strange=strange, read_only=read_only)


def _below(top: Path) -> Iterator[Path]:
    for directory, names, files in os.walk(top):
        if directory == str(top):
            names[:] = [one for one in names if one != _LOST]
        yield from (Path(directory) / one for one in (*names, *files))


def _is_ours(path: Path, store: Path, status: os.stat_result, device: int) -> bool:
    """Tell whether a store has such a name, and it is a file of one name, or a directory."""
    if stat.S_ISDIR(status.st_mode):  # what files say of their device differs in containers
        return status.st_dev == device
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        return False
    if is_partial(path.name) or (path.parent == store and path.name in {RECOVER_NAME, README_NAME}):
        return True
    name = str(path.relative_to(store))
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            name = name.removesuffix(suffix) + SUFFIX
    return parse_name(name) is not None


def command_path(name: str) -> str | None:
    """Return where a command is that is found by its name."""
    import shutil  # noqa: PLC0415 - few need it

    return shutil.which(name, path=search_path())
