"""What a restore onto the running system leaves alone unless it is asked for.

These files say which machine this is and how it starts. Those of a snapshot, taken on other disks,
another network card or another kernel, can keep it from starting or from being reached.
"""

from __future__ import annotations

from typing import NamedTuple


class SystemFiles(NamedTuple):
    """Paths that belong together, without leading ``/``, and why they are left alone."""

    reason: str
    paths: tuple[bytes, ...]


SYSTEM_FILES = (
    SystemFiles("made by the kernel, not stored", (b"dev", b"proc", b"sys")),
    SystemFiles("state of the running system", (b"run", b"var/run", b"var/lock")),
    SystemFiles(
        "which disks are mounted and unlocked",
        (
            b"etc/fstab",
            b"etc/mtab",
            b"etc/crypttab",
            b"etc/mdadm",
            b"etc/mdadm.conf",
            b"etc/lvm",
            b"etc/multipath",
            b"etc/multipath.conf",
            b"etc/iscsi",
            b"etc/zfs",
        ),
    ),
    SystemFiles(
        "which machine this is",
        (
            b"etc/machine-id",
            b"var/lib/dbus/machine-id",
            b"etc/hostname",
            b"etc/hostid",
            b"etc/adjtime",
        ),
    ),
    SystemFiles(
        "how it is reached over the network",
        (
            b"etc/network",
            b"etc/netplan",
            b"etc/NetworkManager",
            b"etc/systemd/network",
            b"etc/systemd/resolved.conf",
            b"etc/systemd/networkd.conf",
            b"etc/resolv.conf",
            b"etc/sysconfig/network",
            b"etc/sysconfig/network-scripts",
            b"etc/netctl",
            b"etc/wpa_supplicant",
            b"etc/udev/rules.d/70-persistent-net.rules",
        ),
    ),
    SystemFiles(
        "how it starts",
        (
            b"boot",
            b"efi",
            b"etc/default/grub",
            b"etc/default/grub.d",
            b"etc/grub.d",
            b"etc/kernel",
            b"etc/kernel-img.conf",
            b"etc/initramfs-tools",
            b"etc/initramfs",
            b"etc/dracut.conf",
            b"etc/dracut.conf.d",
            b"etc/mkinitcpio.conf",
            b"etc/modules",
            b"etc/modules-load.d",
            b"etc/modprobe.d",
            b"lib/modules",
            b"usr/lib/modules",
        ),
    ),
)

_SYSTEM_DIRECTORIES = frozenset(
    b"bin boot dev efi etc lib lib32 lib64 libx32 proc root run sbin sys usr var".split()
)
SYSTEM_REASONS = {path: group.reason for group in SYSTEM_FILES for path in group.paths}
"""Why each of these, and what is below it, is left alone."""


def is_system_place(path: bytes) -> bool:
    """Return whether ``path``, without its leading ``/``, lies in a directory of the system."""
    return not path or path.partition(b"/")[0] in _SYSTEM_DIRECTORIES
