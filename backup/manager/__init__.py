"""Taking snapshots: the order of steps."""

from __future__ import annotations

from backup.manager.backup_manager import BackupManager
from backup.manager.request import Problem, Progress, SnapshotReport, SnapshotRequest
from backup.manager.run import take_snapshot

__all__ = [
    "BackupManager",
    "Problem",
    "Progress",
    "SnapshotReport",
    "SnapshotRequest",
    "take_snapshot",
]
