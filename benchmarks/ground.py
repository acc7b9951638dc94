"""Where runs work: cleared between rounds, and left to settle before the next one."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

from benchmarks import trees
from benchmarks.data import DataSet, NotThereError
from benchmarks.machine import file_system

MANY = 1000  # entries; fewer may be deleted while a round is under way
_RECENTLY = 62.0  # seconds; the kernel's RECENTCY_MIN is 60


class Ground:
    """The directory ``run`` in the work directory.

    ext4 without a journal does not give out again, for a minute, an inode that was deleted, and
    looks at each of them whenever a file is made: then to make 14,000 files takes 10 s in place of
    0.3 s. So trees with many entries are deleted between rounds alone, and on such a file system
    the next round waits.
    """

    def __init__(self, work: Path) -> None:
        self.top = work / "run"
        self._work = work
        self._deleted = -_RECENTLY  # when there was something to delete
        self._waits = file_system(work) == "ext4" and not journal(work)

    def clear(self, name: str = "") -> None:
        """Delete what a round has left, or everything."""
        directory = self.top / name
        if not directory.exists():
            return
        many = trees.measured(directory).entries >= MANY
        shutil.rmtree(directory)
        if many:
            os.sync()
            self._deleted = time.monotonic()

    def settle(self) -> None:
        """Wait until what was deleted slows nobody down."""
        left = self._deleted + _RECENTLY - time.monotonic()
        if self._waits and left > 0:
            print(f"waiting {left:.0f} s: files were deleted", file=sys.stderr, flush=True)
            time.sleep(left)

    def room_for(self, data: DataSet, contenders: int) -> None:
        """See to it that all repositories and restored trees of a round have room at once.

        Raises:
            NotThereError: They may not have.
        """
        trees_at_once = contenders if data.entries >= MANY else 1
        needed = contenders * data.size + trees_at_once * data.room
        free = os.statvfs(self._work)
        if free.f_bavail * free.f_frsize < needed:
            raise NotThereError(
                f"{needed >> 20:,} MiB may be needed, there are"
                f" {free.f_bavail * free.f_frsize >> 20:,} (--only takes fewer tools)"
            )
        if free.f_files and free.f_favail < trees_at_once * data.entries:
            raise NotThereError(f"too few inodes for {trees_at_once * data.entries:,} files")


def journal(path: Path) -> bool:
    """Tell whether the ext4 file system of a path has a journal."""
    device = path.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    return any(Path("/proc/fs/jbd2").glob(f"{name}-*"))
