"""What is on this machine: places worth saving, disks that could hold snapshots.

It looks for seconds at most: large directories are measured in part, network mounts not at all, as
one whose server is gone would hang.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from backup.environment import is_container
from backup.sources.filesystems import KERNEL_MADE

_USUAL = ("etc", "home", "root", "srv", "var/www")
_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")
_KUBERNETES = "var/run/secrets/kubernetes.io"
_MOUNTS = "proc/self/mountinfo"
_NETWORK = re.compile(r"nfs4?|cifs|smb\w*|9p|ceph|glusterfs|afs|fuse\.(?!ext\w*|ntfs\w*|exfat).+")
_NO_DISKS = KERNEL_MADE | {"tmpfs", "ramfs", "overlay", "aufs", "squashfs", "iso9660", "erofs"}
_FOR_THE_MACHINE = ("/boot", "/efi", "/run", "/snap", "/var/lib", "/dev", "/proc", "/sys")
_SMALLEST = 2**30
_MOST_ENTRIES = 20_000
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Found(NamedTuple):
    """A place worth saving; ``whole`` tells whether ``size`` is all of it, or a part."""

    path: Path
    size: int
    whole: bool


class Disk(NamedTuple):
    """A mounted file system that could hold snapshots; ``free`` is ``None`` where nobody looked."""

    path: Path
    type: str
    free: int | None


class Survey(NamedTuple):
    """What was found."""

    sources: tuple[Found, ...] = ()
    disks: tuple[Disk, ...] = ()
    in_container: bool = False


class Mount(NamedTuple):
    """A line of mountinfo."""

    path: str
    type: str
    device: str
    read_only: bool


def look(home: Path, *, is_root: bool, top: Path = Path("/")) -> Survey:
    """Return what is below ``top`` for root to save, or in ``home`` for anybody else."""
    usual = [top / name for name in _USUAL] if is_root else [home]
    sources = [path for path in _apart(usual) if _holds_something(path)]
    return Survey(
        sources=tuple(map(measure, sources)),
        disks=tuple(find_disks(_read_mounts(top), sources)),
        in_container=in_container(top),
    )


def in_container(top: Path = Path("/")) -> bool:
    """Tell whether this looks like a container, whose host name means nothing."""
    return is_container(None, [top / mark for mark in (*_MARKS, _KUBERNETES)])


def measure(path: Path, most: int = _MOST_ENTRIES) -> Found:
    """Return how much the first names below ``path`` take, ``most`` of them."""
    sizes = list(islice(_sizes(path), most + 1))
    return Found(path, sum(sizes[:most]), whole=len(sizes) <= most)


def _sizes(top: Path) -> Iterator[int]:
    """Yield the bytes of each name below ``top``, in the same file system."""
    try:
        device = top.stat().st_dev
    except OSError:
        return
    ahead = [os.fspath(top)]
    while ahead:
        with suppress(OSError), os.scandir(ahead.pop()) as names:
            for name in names:
                try:
                    status = name.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    ahead.append(name.path)
                yield status.st_size if stat.S_ISREG(status.st_mode) else 0


def _holds_something(path: Path) -> bool:
    try:
        with os.scandir(path) as names:
            return next(names, None) is not None
    except OSError:
        return False


def _apart(paths: Sequence[Path]) -> list[Path]:
    """Return those of ``paths`` that are not in another one, links followed."""
    real = {path: Path(os.path.realpath(path)) for path in paths}
    kept: list[Path] = []
    for path in paths:
        others = [real[one] for one in paths if real[one] != real[path]]
        is_inside = any(real[path].is_relative_to(other) for other in others)
        is_twice = real[path] in [real[one] for one in kept]
        if not is_inside and not is_twice:
            kept.append(path)
    return kept


def _read_mounts(top: Path) -> list[Mount]:
    try:
        return parse_mounts((top / _MOUNTS).read_text("utf-8", "surrogateescape"))
    except OSError:
        return []


def parse_mounts(text: str) -> list[Mount]:
    """Return what the lines of ``/proc/self/mountinfo`` say."""
    mounts = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) > 5 and len(kinds) > 1:  # noqa: PLR2004 - the path and its options
            read_only = "ro" in fields[5].split(",")
            mounts.append(Mount(_unescaped(fields[4]), kinds[0], _unescaped(kinds[1]), read_only))
    return mounts


def _unescaped(text: str) -> str:
    """Return a field without its octal escapes, of which each is one byte."""
    raw = re.sub(_ESCAPE.pattern.encode(), lambda one: bytes([int(one[1], 8)]), os.fsencode(text))
    return os.fsdecode(raw)


def find_disks(
    mounts: Sequence[Mount], sources: Sequence[Path], *, least: int = _SMALLEST
) -> Iterator[Disk]:
    """Yield what could hold snapshots, the one with most room first, network mounts last.

    Args:
        mounts: What is mounted.
        sources: Places whose own disks do not count, nor does that of the root directory.
        least: How many bytes have to be free.
    """
    taken = {mount.device for mount in mounts if mount.path == "/"}
    devices = set(map(_device, sources))
    found: list[Disk] = []
    for mount in mounts:
        if mount.device in taken or not _may_hold(mount):
            continue
        path = Path(mount.path)
        free = None if _NETWORK.fullmatch(mount.type) else _room(path)
        if free is None or (free >= least and _device(path) not in devices):
            taken.add(mount.device)
            found.append(Disk(path, mount.type, free))
    yield from sorted(found, key=lambda disk: -(disk.free or 0))


def _may_hold(mount: Mount) -> bool:
    is_disk = mount.type not in _NO_DISKS and not mount.read_only
    is_system = any(Path(mount.path).is_relative_to(one) for one in _FOR_THE_MACHINE)
    is_removable = Path(mount.path).is_relative_to("/run/media")
    return is_disk and mount.path != "/" and (not is_system or is_removable)


def _device(path: Path) -> int | None:
    try:
        return path.stat().st_dev
    except OSError:
        return None


def may_write(directory: Path) -> bool:
    """Tell whether files can be made in a directory, by whoever this process acts for."""
    effective = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=effective)


def _room(path: Path) -> int:
    """Return the free bytes of a directory that can be written to, else 0."""
    try:
        if not path.is_dir() or not may_write(path):
            return 0
        status = os.statvfs(path)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
