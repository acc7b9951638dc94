"""The file systems that a walk comes across."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_DESCRIPTORS = Path("/proc/self/fdinfo")

_KERNEL_MADE = """
autofs binder binfmt_misc bpf cgroup cgroup2 configfs cpuset debugfs devpts devtmpfs efivarfs
functionfs fusectl hugetlbfs mqueue nsfs openpromfs proc pstore resctrl rpc_pipefs securityfs
selinuxfs smackfs sysfs tracefs
"""
KERNEL_MADE = frozenset(_KERNEL_MADE.split())
"""Types of file systems in which the kernel shows itself: there is nothing to save in them."""


class Filesystem(NamedTuple):
    """One mounted file system: ``st_dev``, and its type or ``""`` where that is unknown."""

    device: int
    type: str


class FilesystemTable:
    """Numbers devices from 0 in the order in which they are first met.

    A device number may differ after the next boot; its place in the same walk seldom does.
    """

    def __init__(self) -> None:
        self.filesystems: list[Filesystem] = []
        self._ordinals: dict[int, int] = {}

    def ordinal(self, device: int) -> int:
        """Return the number of ``device``, giving it the next one when it is new."""
        number = self._ordinals.get(device)
        if number is None:
            number = self._ordinals[device] = len(self.filesystems)
            self.filesystems.append(Filesystem(device, _read_types().get(device, "")))
        return number

    def invents_sizes(self, ordinal: int) -> bool:
        """Return whether the kernel makes up the contents there, so that sizes say nothing."""
        return self.filesystems[ordinal].type in KERNEL_MADE


def mount_id(descriptor: int) -> bytes | None:
    """Return the number of the mount that an open file was reached by, ``None`` if unknown."""
    try:
        lines = (_DESCRIPTORS / str(descriptor)).read_bytes().splitlines()
    except OSError:
        return None
    found = (line.partition(b":") for line in lines if line.startswith(b"mnt_id:"))
    return next((number.strip() for _, _, number in found), None)


def _read_types() -> dict[int, str]:
    """Return the file system type of each mounted device."""
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return {}
    return dict(_parse_mount(line) for line in lines)


def _parse_mount(line: bytes) -> tuple[int, str]:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    before, _, after = line.partition(b" - ")
    major, _, minor = before.split(b" ")[2].partition(b":")
    return os.makedev(int(major), int(minor)), after.split(b" ")[0].decode("ascii", "replace")
