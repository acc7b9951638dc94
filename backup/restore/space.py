"""Whether what is to be written has room, told before anything is."""

from __future__ import annotations

import os
from collections import defaultdict

from backup.errors import RestoreError
from backup.restore.decision import Action
from backup.restore.lookup import Lookup
from backup.restore.steps import FILES, Step
from backup.sources.filesystems import FilesystemTable

_BLOCK = 512
_MIB = 2**20
_WRITING = frozenset({Action.CREATE, Action.REPLACE})
# Where contents may take less room than they have bytes, nobody can tell beforehand.
_COMPRESSING = frozenset({"bcachefs", "btrfs", "f2fs", "squashfs", "ubifs", "zfs"})


class SpaceNeeded:
    """Adds up what each file system would have to take.

    Args:
        lookup: What exists.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._bytes: dict[int, int] = defaultdict(int)
        self._nodes: dict[int, int] = defaultdict(int)
        self._states: dict[int, os.statvfs_result] = {}
        self._groups: set[tuple[int, int]] = set()
        self._directory: tuple[bytes, int] | None = None

    def add(self, step: Step) -> None:
        """Add what ``step`` writes; what it replaces gives its room back."""
        entry, found = step.entry, step.found
        if entry is None or step.action not in _WRITING:
            return
        device = self._device(step.path.rpartition(b"/")[0])
        if found is None:
            self._nodes[device] += 1
        elif found.status.st_nlink == 1:
            self._bytes[device] -= found.status.st_blocks * _BLOCK
        group = (entry.filesystem, entry.inode)
        if entry.type in FILES and not (entry.links > 1 and group in self._groups):
            self._bytes[device] += entry.stored_size
        if entry.links > 1:
            self._groups.add(group)

    def _device(self, directory: bytes) -> int:
        if self._directory is None or self._directory[0] != directory:
            device, state = self._lookup.file_system(directory)
            self._states.setdefault(device, state)
            self._directory = (directory, device)
        return self._directory[1]

    def check(self) -> None:
        """Refuse what has no room.

        Raises:
            RestoreError: A file system has less room, or fewer inodes, than would be needed.
        """
        hint = "nothing has been changed; free some space, or restore to another file system"
        for device, state in self._states.items():
            if not state.f_blocks or _type_of(device) in _COMPRESSING:  # or it does not tell
                continue
            blocks = state.f_bfree if os.geteuid() == 0 else state.f_bavail
            free = blocks * state.f_frsize
            if self._bytes[device] > free:
                raise RestoreError(
                    f"no room: {self._bytes[device] / _MIB:,.1f} MiB are to be written,"
                    f" and the target's file system has {free / _MIB:,.1f} MiB left",
                    hint=hint,
                )
            if state.f_files and self._nodes[device] > state.f_ffree:
                raise RestoreError(
                    f"no room: {self._nodes[device]:,} names are to be made, and the target's file"
                    f" system takes {state.f_ffree:,} more",
                    hint=hint,
                )


def _type_of(device: int) -> str:
    table = FilesystemTable()
    return table.filesystems[table.ordinal(device)].type
