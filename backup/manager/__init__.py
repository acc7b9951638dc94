"""Taking snapshots: the order of steps. Names are loaded on first use: workers need few of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.manager.backup_manager import BackupManager
    from backup.manager.request import LeftOut, Problem, Progress, SnapshotReport, SnapshotRequest
    from backup.manager.run import take_snapshot

_HOMES = {
    "BackupManager": "backup.manager.backup_manager",
    "LeftOut": "backup.manager.request",
    "Problem": "backup.manager.request",
    "Progress": "backup.manager.request",
    "SnapshotReport": "backup.manager.request",
    "SnapshotRequest": "backup.manager.request",
    "take_snapshot": "backup.manager.run",
}

__all__ = [
    "BackupManager",
    "LeftOut",
    "Problem",
    "Progress",
    "SnapshotReport",
    "SnapshotRequest",
    "take_snapshot",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'backup.manager' has no attribute {name!r}")
